"""Data: from files to encoded examples, every fault named before training.

files → `sources` → `read` → `schema`, `text`, `chat` (by `ingest`) → `store` → `duplicates`, `labels`, `outliers`
→ `split` → `near` → `balance` (all by `prepare`) → `render` → `tokenize` → `encode`; `report` and `show` tell a person.
"""
