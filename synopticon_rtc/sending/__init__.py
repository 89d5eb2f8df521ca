"""A stream as its sender sees it: how often faces are looked for, by what, and in which layers it goes."""
