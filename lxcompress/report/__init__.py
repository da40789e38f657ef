"""Write the results and measurements of a study as a report: one HTML file, tables, JSON and Markdown."""
