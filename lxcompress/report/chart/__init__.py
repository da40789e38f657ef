"""The charts of the report: matplotlib draws them as inline SVG, with the colours of the page's style sheet."""
