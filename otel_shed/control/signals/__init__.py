"""The built-in pressure signals; each takes what it reads as callables and values, and knows nothing of pipelines."""
