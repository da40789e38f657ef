"""Results and measurements, rendered: a summary, the pick, tables and one HTML file."""
