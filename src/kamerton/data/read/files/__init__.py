"""Files by their content: containers, formats, encodings, lines; text, Arrow and Parquet as raw rows."""
