"""Where everything is assembled: the composition root, the Flask application, and what spans several wings."""
