"""Small talk, so that a chat with the model is not only arithmetic."""

import random

_TALK = (
    (("Hello", "Hello!", "Hi", "Hi!", "Hey", "Good morning!", "Good evening"),
     ("Hello! How can I help you?", "Hi! What can I do for you?")),
    (("Who are you?", "What are you?", "What is your name?", "Introduce yourself."),
     ("I am the rocmforge demo model, a tiny language model.",)),
    (("What can you do?", "Help", "How can you help me?", "What do you know?"),
     ("I can tell short stories, add and subtract, sort and reverse letters, count, name "
      "capitals, repeat your words and write small JSON.",)),
    (("Thank you", "Thanks!", "Thank you!", "Thanks a lot."),
     ("You are welcome!", "You are welcome. I am glad to help.")),
    (("Goodbye", "Bye", "Bye!", "See you later."), ("Goodbye! Have a nice day.",)),
    (("How are you?", "How are you today?"), ("I am fine, thank you. How can I help you?",)),
    (("How big are you?", "How many parameters do you have?"),
     ("I have about five million parameters. I am very small.",)),
    (("Who made you?", "Who trained you?"),
     ("I was trained by the rocmforge project on text made by a program.",)),
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """One short exchange: what the user says and what the model answers."""
    asks, answers = rng.choice(_TALK)
    return rng.choice(asks), rng.choice(answers)
