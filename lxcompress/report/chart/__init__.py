"""The report's charts, drawn by matplotlib as inline SVG that takes its colours from the page's style sheet."""
