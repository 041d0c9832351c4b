"""An OpenAI-compatible fine-tuning API over run directories: `kamerton serve`.

It holds no state: every answer is read from the disk, and jobs train in processes of their own (`kamerton.jobs`), so
they outlive the server. `app` puts it together; `files`, `jobs`, `models` and `chat` answer the requests.
"""
