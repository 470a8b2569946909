"""Who gets in: log-in and the question that nginx asks before each request, in a small process of its own."""
