"""Numbers: what a metric counts, its windows and buckets, its answers, and the proof of them."""
