"""Hydra plugins for any application: `hydra/sweeper=optuna` (docs/sweeps_plugin.md), a sweeper on Optuna, and
`hydra/launcher=process` (docs/launchers.md), which gives each job a process of its own.
"""
