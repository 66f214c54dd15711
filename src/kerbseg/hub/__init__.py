"""Models on a hub (huggingface.co, or where HF_ENDPOINT points): their addresses, fetching, pushing.

What comes from a hub is another's: of a repository only `config.json` and `model.safetensors` are read, each within a
bound, and nothing in them is executed.
"""
