"""The soak: the day of a scanner on a real Valkey, before, by hand and with snapdelta, on one seeded feed.

plan     what is played: frames, symbols, fields, lists, pace
ways     the three ways to save and to read
actors   the writer and the reader processes
runner   a run: servers, processes, samples, checks
saved    a run as JSON
growth   growth an hour with its confidence interval
table    the promised table, and what the run projects to
"""
