"""Write ``tickets.csv``, made-up support tickets in 12 categories of several words, as a help desk might export them.

    python examples/first-hour/make_tickets.py [ROWS]

The sentences are drawn from lists, and one ticket in ten gets a category at random, as hasty people give them.
"""

import csv
import random
import sys
from pathlib import Path

# Category -> what such tickets are about.
CATEGORIES = {
    "Billing: wrong amount": ("the invoice shows the wrong amount", "I was charged twice", "the discount is missing"),
    "Billing: refund request": ("I want my money back", "please refund the order", "when does the refund arrive"),
    "Account: cannot log in": ("the password is not accepted", "I am locked out", "the login page says error 403"),
    "Account: change of address": (
        "I moved to another street",
        "my address is out of date",
        "the new address is wrong",
    ),
    "Delivery: parcel is late": ("the parcel is a week late", "tracking has not moved", "where is my delivery"),
    "Delivery: parcel is damaged": ("the box was crushed", "the glass was broken on arrival", "the package was wet"),
    "Product: does not start": (
        "the device does not start",
        "nothing happens when I press the button",
        "it stays dark",
    ),
    "Product: strange noise": ("the motor makes a strange noise", "it rattles all the time", "there is a loud hum"),
    "Software: update failed": ("the update stops at 40 percent", "the update fails", "after the update it is stuck"),
    "Software: feature request": ("please add a dark theme", "could you support CSV", "a shortcut would be useful"),
    "Praise and thanks": ("thank you for the quick help", "great service", "the new version is a joy"),
    "Other questions": ("what are your opening hours", "do you sell gift cards", "may I visit the office"),
}
OPENINGS = ("Hello,", "Hi team,", "Good morning,", "To whom it may concern:", "", "Dear support,")
DETAILS = (
    "I ordered on {day}.", "My number is {number}.", "This is the {count}. time that I write.", "I use it every day.",
    "My colleague said the same.", "Please answer soon.", "It began on {day}.", "",
)  # fmt: skip
ENDINGS = ("Thanks", "Best regards", "Please help!", "", "Kind regards, A. Smith")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
# How often the categories occur: common ones and rare ones.
WEIGHTS = (14, 12, 12, 10, 10, 9, 8, 7, 7, 5, 4, 2)
HASTY = 0.1


def tickets(rows: int) -> list[dict[str, str]]:
    """Return ``rows`` tickets, always the same ones."""
    draw = random.Random(0)
    names, made = list(CATEGORIES), []
    for number in range(rows):
        (category,) = draw.choices(names, WEIGHTS)
        detail = draw.choice(DETAILS).format(
            day=draw.choice(DAYS), number=draw.randint(10_000, 99_999), count=draw.randint(2, 4)
        )
        parts = (draw.choice(OPENINGS), draw.choice(CATEGORIES[category]) + ".", detail, draw.choice(ENDINGS))
        given = draw.choice(names) if draw.random() < HASTY else category
        body = " ".join(part for part in parts if part)
        made.append({"ticket": str(100_000 + number), "opened": f"2026-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}",
                     "body": body, "category": given})  # fmt: skip
    return made


if __name__ == "__main__":
    rows = tickets(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
    with Path("tickets.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
