"""Data: from files to encoded examples, every fault named before training.

files → `sources` → `read` → `schema` + `text` + `chat` (`ingest`) → `store` → `duplicates`, `labels`, `outliers`, `near`
→ `split` → `balance` (`prepare` runs them) → `render` → `tokenize` → `encode`; `report` and `show` tell a person.
"""
