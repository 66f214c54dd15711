"""Pages that are made from the code when the site is built; they exist in the built site alone."""
