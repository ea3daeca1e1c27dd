"""One file's text becomes a Transform: which calls it takes, and which events it makes of them."""
