"""Writing transforms: the editor, preview, the sandbox, starter files."""
