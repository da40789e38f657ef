"""The study: it turns the cells of a recipe into results in a run folder, and can be interrupted at any moment."""
