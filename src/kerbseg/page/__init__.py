"""The page of `kerbseg app`: looking at what models see, and correcting it. Only `blocks` and `serving` know gradio."""
