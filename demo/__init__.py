"""The demo: a market through Redis, from a writer process to readers that check every frame.

plan     what is played, and when the writer is killed and the late reader joins
story    plays it: the server, the processes, the kill, the late reader
cast     the processes: started, listened to, and ended together
reports  what a process tells
writer, reader, owner  what runs inside the processes
measure  processor time and stalls of an event loop
judge    whether what was seen is what must be seen
screen   progress while it runs
summary  the table at the end
"""
