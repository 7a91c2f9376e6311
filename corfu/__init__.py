"""A shared log: one totally ordered, write-once, durable log that many clients append to."""
