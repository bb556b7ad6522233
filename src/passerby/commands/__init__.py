"""The commands: parse, call one function, print; a room is imported only inside its command."""
