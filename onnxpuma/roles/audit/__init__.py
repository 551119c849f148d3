"""The owner's room after a wrong answer: run a session again, and find who departed from the program."""
