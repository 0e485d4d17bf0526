"""The demo: a market through Redis, from a writer process to readers that check every frame.

plan      what is played, and when the writer is killed and the late reader joins
runner    plays it: the server, the processes, the kill, the late reader
processes  the processes: started, listened to, and ended together
reports   what a process tells
writer, reader, parent_link  what runs inside the processes
measure   processor time and stalls of an event loop
checker   compares what was seen with what must be seen
progress  what the console shows while it runs
summary   the table at the end
errors    what ends it
"""
