"""Write a table of generated support tickets: title, body, and the answers to four questions about each.

    python examples/tickets/make_tickets.py

The same seed gives the same table. A ticket may mention what it is not about, deny what it does not want, and hold a
sentence in another tone than the rest. 4 % of the answers are wrong and 6 % are missing, as in tickets that people have
labelled in a hurry.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

TARGET = Path(__file__).with_name("tickets.csv")
TEAMS = ("returns", "billing", "technical", "account")
LEVELS = ("routine", "soon", "today")
TAGS = ("refund", "bug", "praise", "cancel")
# Of the answers to each question, the share that is replaced by another one, and the share that is missing.
WRONG, MISSING = 0.04, 0.06
# Shares of tickets that mention the matter of another team, and of words with a typing error.
MENTIONS, TYPOS = 0.55, 0.03

# The matters of each team: a title, and ways to say what happened. {item} and {day} are filled in.
MATTERS = {
    "returns": [
        (
            "{item} arrived damaged",
            ["The {item} came with a crack on one side", "The box was open and the {item} is scratched"],
        ),
        ("wrong {item}", ["You sent another {item} than the one on my order", "This is not the {item} that I chose"]),
        (
            "how to send the {item} back",
            [
                "I want to send the {item} back and need a label",
                "Nobody has collected the {item} that I packed on {day}",
            ],
        ),
        (
            "{item} still not here",
            ["The {item} should have been here on {day}", "The parcel service says that the {item} went back to you"],
        ),
    ],
    "billing": [
        (
            "charged twice for the {item}",
            ["My card was charged twice for the {item}", "There are two payments for one {item} on my statement"],
        ),
        (
            "invoice for the {item}",
            ["The invoice for the {item} has the wrong address", "I never received an invoice for the {item}"],
        ),
        (
            "price of the {item}",
            [
                "The {item} was cheaper on {day} than what I paid",
                "The voucher was not taken off the price of the {item}",
            ],
        ),
        (
            "payment declined",
            [
                "I tried to pay for the {item} and the payment was declined",
                "You say that the payment from {day} never came",
            ],
        ),
    ],
    "technical": [
        (
            "{item} does not start",
            ["The {item} does not start since {day}", "After the update the {item} restarts by itself"],
        ),
        (
            "app cannot find the {item}",
            ["The app cannot find the {item} any more", "The app closes as soon as I select the {item}"],
        ),
        (
            "{item} and the new version",
            [
                "Since the new version the {item} shows an empty page",
                "The settings of the {item} are gone after every restart",
            ],
        ),
        (
            "question on setting up the {item}",
            ["I do not understand step three of the guide for the {item}", "How do I connect the {item} to my phone"],
        ),
    ],
    "account": [
        ("cannot sign in", ["I cannot sign in since {day}", "The link to choose a new password never arrives"]),
        (
            "change of address",
            ["Please change the address on my profile, I move on {day}", "My profile still shows my old name"],
        ),
        (
            "close my profile",
            ["I would like to close my profile", "Please remove my data and everything on the {item}"],
        ),
        (
            "two profiles",
            [
                "I have two profiles and the {item} is on the wrong one",
                "My partner and I want to share the {item} on one profile",
            ],
        ),
    ],
}
VAGUE_TITLES = ["question", "problem", "my order", "please read", "once more", "{item}", "help", "order of {day}"]
# How a ticket mentions another matter in passing.
ASIDES = [
    "Last month I wrote to you about something else ({aside}), and that is solved.",
    "It has nothing to do with my other ticket, where I said: {aside}.",
    "A friend of mine had this: {aside}. With me it is different.",
    "Before you ask: no, it is not that {aside}.",
    "At first I thought: {aside}. That was not the reason.",
]
TONES = {
    True: [
        "This is the third time that I write, and nobody answers.",
        "Great service, really. Three weeks and not a single answer.",
        "I have had enough of your standard replies.",
        "Do you read what people send you at all?",
        "I am not going to explain this yet another time.",
        "Thank you for nothing.",
        "Your colleague on the phone laughed at me.",
        "I will tell everybody I know how you treat customers.",
    ],
    False: [
        "I know that you have a lot to do, so no hard feelings.",
        "I am not angry, I would just like to know.",
        "Nobody answered last time, which can happen.",
        "Your colleague on the phone was kind and asked me to write.",
        "Thank you for reading this.",
        "It may well be my own mistake.",
        "I have had enough time to try everything in the guide.",
        "Maybe you can explain this to me once more.",
        "",
        "",
    ],
}
TIMES = {
    "routine": [
        "There is no hurry, it does not have to be today.",
        "Whenever you find the time.",
        "I only need it next month.",
        "An answer next week is early enough.",
        "",
        "",
    ],
    "soon": [
        "It would be good to have this done by the end of the week.",
        "Not today, but please before the weekend.",
        "I am away from {day} on and would like to have an answer before.",
        "Please do not wait until next month.",
        "I need it in two or three days.",
    ],
    "today": [
        "I need it this evening, a later answer is of no use to me.",
        "My train leaves in a few hours.",
        "It cannot wait until the end of the week, nor until tomorrow.",
        "We have forty guests tonight.",
        "People stand in front of my shop right now.",
        "Please call me within the hour.",
    ],
}
WISHES = {
    "refund": (
        [
            "I want my money back.",
            "Please transfer the amount to my card.",
            "Do not send another one, just pay it back.",
        ],
        ["I do not want my money back, just a solution.", "I have the money back already, that part is fine."],
    ),
    "bug": (
        [
            "The same thing happens on my other phone.",
            "It worked before your update.",
            "The screen shows error 1{number}.",
        ],
        ["The program itself works well.", "I do not think that it is an error in the program."],
    ),
    "praise": (
        [
            "Apart from this I love what you make.",
            "The new colours are lovely.",
            "You were quick last time, that was impressive.",
        ],
        ["I used to love what you make.", "I wish I could say that I was impressed."],
    ),
    "cancel": (
        ["Please end my subscription.", "I will not renew after {day}.", "Take me off the yearly plan."],
        ["I do not want to end my subscription over this.", "Please renew the yearly plan as usual."],
    ),
}
TAG_SHARES = {
    "returns": (0.5, 0.08, 0.2, 0.1),
    "billing": (0.45, 0.12, 0.12, 0.25),
    "technical": (0.15, 0.6, 0.25, 0.15),
    "account": (0.1, 0.25, 0.15, 0.4),
}
ITEMS = ["lamp", "kettle", "speaker", "camera", "desk", "watch", "printer", "router", "bicycle light", "thermostat"]
DAYS = ["Monday", "Tuesday", "Thursday", "Friday", "the 3rd", "the 14th", "Easter"]


def make_ticket(draw: random.Random) -> dict[str, str]:
    """Return one ticket with its answers, before any of them is made wrong or is removed."""
    team = draw.choices(TEAMS, (0.34, 0.28, 0.24, 0.14))[0]
    is_angry = draw.random() < 0.35
    level = draw.choices(LEVELS, (0.5, 0.3, 0.2) if not is_angry else (0.35, 0.35, 0.3))[0]
    tags = [tag for tag, share in zip(TAGS, TAG_SHARES[team], strict=True) if draw.random() < share]
    words = {"item": draw.choice(ITEMS), "day": draw.choice(DAYS), "number": str(draw.randint(10, 99))}

    title, ways = draw.choice(MATTERS[team])
    if draw.random() < 0.4:
        title = draw.choice(VAGUE_TITLES)
    sentences = [f"{draw.choice(ways)}.", draw.choice(TIMES[level])]
    # Two sentences of the tone, of which one may be of the other tone.
    sentences.append(draw.choice(TONES[is_angry]))
    if draw.random() < 0.3:
        sentences.append(draw.choice(TONES[draw.random() < 0.5 if is_angry else False]))
    for tag in TAGS:
        asked, denied = WISHES[tag]
        if tag in tags:
            sentences.append(draw.choice(asked))
        elif draw.random() < 0.3:
            sentences.append(draw.choice(denied))
    if draw.random() < MENTIONS:
        other = draw.choice([name for name in TEAMS if name != team])
        _, other_ways = draw.choice(MATTERS[other])
        aside = draw.choice(other_ways)
        sentences.append(draw.choice(ASIDES).replace("{aside}", aside[0].lower() + aside[1:]))
    draw.shuffle(sentences)
    body = " ".join(filter(None, sentences))
    return {
        "title": mistyped(draw, title.format(**words)),
        "body": mistyped(draw, body.format(**words)),
        "queue": team,
        "is_angry": "yes" if is_angry else "no",
        "priority": level,
        "tag_list": ";".join(tags) or "[]",
    }


def mistyped(draw: random.Random, text: str) -> str:
    """Return ``text`` with typing errors: two letters swapped, one left out, or one typed twice."""
    words = text.split(" ")
    for index, word in enumerate(words):
        if len(word) > 3 and draw.random() < TYPOS:
            at = draw.randrange(1, len(word) - 1)
            middle = draw.choice([word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1]])
            words[index] = word[:at] + middle + word[at + 2 :]
    return " ".join(words)


def with_noise(draw: random.Random, ticket: dict[str, str]) -> dict[str, str]:
    """Return the ticket with some answers wrong and some missing; at least one answer stays."""
    others = {"queue": TEAMS, "is_angry": ("no", "yes"), "priority": LEVELS}
    noisy = dict(ticket)
    for column, options in others.items():
        if draw.random() < WRONG:
            noisy[column] = draw.choice([option for option in options if option != ticket[column]])
    tags = [tag for tag in TAGS if (tag in ticket["tag_list"].split(";")) != (draw.random() < WRONG)]
    noisy["tag_list"] = ";".join(tags) or "[]"
    for column in draw.sample([*others, "tag_list"], 3):
        if draw.random() < MISSING * 4 / 3:
            noisy[column] = ""
    return noisy


def main() -> None:
    """Write the table that the command line names."""
    parser = argparse.ArgumentParser(description="Write a table of generated support tickets.")
    parser.add_argument("--out", type=Path, default=TARGET, help="the CSV file to write")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    tickets = [with_noise(draw, make_ticket(draw)) for _ in range(options.rows)]
    with options.out.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, tickets[0])
        table.writeheader()
        table.writerows(tickets)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
