"""Hydra plugins for any application: `hydra/sweeper=optuna` (docs/how-to/sweeps_plugin.md), a sweeper on Optuna, and
`hydra/launcher=process` (docs/how-to/launchers.md), which gives each job a process of its own.
"""
