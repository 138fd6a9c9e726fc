"""The page in the browser: its server, its tabs, and who may see it."""
