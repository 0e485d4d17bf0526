"""What is wrong with a Redis server as snapdelta uses it: `snapdelta doctor`. Reads only, changes nothing."""
