"""Writing transforms: the editor, preview, the sandbox, the starter."""
