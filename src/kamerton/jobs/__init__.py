"""Jobs: runs that train in processes of their own, outlive whoever started them, and can be watched by many.

A job is a run directory; nothing else is kept of it. `FineTuningManager` (`manager`) starts, stops and resumes jobs,
`TrainingMonitor` (`monitor`) follows them, `worker` is the process that trains one, `store` reads what they say.
"""
