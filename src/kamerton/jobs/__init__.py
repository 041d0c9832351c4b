"""Jobs: runs that train in their own process, outlive their caller, and can be watched by several observers.

A job is a run directory; no other state is kept. `FineTuningManager` (`manager`) starts, stops and resumes jobs,
`TrainingMonitor` (`monitor`) follows them, `worker` is the process that trains one, `store` reads their state.
"""
