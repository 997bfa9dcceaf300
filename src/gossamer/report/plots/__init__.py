"""The plots of the pages as plotly figures, without any styling of the page around them."""
