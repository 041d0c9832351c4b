"""An OpenAI-compatible fine-tuning API over run directories: `kamerton serve`.

It is stateless: every answer is read from the disk, and jobs train in their own processes (`kamerton.jobs`), which
outlive the server. `app` assembles it; `routes` answers requests, `generation` generates the text of chats.
"""
