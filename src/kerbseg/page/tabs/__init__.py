"""The tabs of the page, in gradio's words; what they show is computed without it."""
