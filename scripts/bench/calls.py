"""Write conversations in which an assistant calls functions, to fine-tune on and to measure exact calls with.

    python scripts/bench/calls.py --rows 1200 --out calls.jsonl
    kamerton train data.path=calls.jsonl trainer.max_steps=60 base=true score.mode=generate

Eight functions of everyday assistants (weather, currency, timers, units, translation, calendar, notes, routes) are
defined in every row, as an application would send them. Requests are written from several wordings with cities,
amounts, times and texts; one in eight needs no function and is answered in words. The same seed gives the same file.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

CITIES = (
    *("Oslo", "Riga", "Porto", "Ghent", "Turin", "Split", "Lodz", "Cork", "Bergen", "Tartu", "Graz", "Malaga"),
    *("Nantes", "Brno", "Varna", "Kaunas", "Basel", "Utrecht", "Leeds", "Aarhus"),
)
CURRENCIES = ("EUR", "PLN", "USD", "GBP", "CHF", "NOK", "CZK", "SEK")
LANGUAGES = ("Polish", "French", "Norwegian", "Italian", "Dutch", "Spanish")
UNITS = (("miles", "kilometres"), ("pounds", "kilograms"), ("feet", "metres"), ("gallons", "litres"))
PHRASES = ("good morning", "where is the station", "thank you very much", "the bill, please", "see you tomorrow")
NOTES = ("buy oat milk", "call the dentist", "return the library books", "water the ferns", "renew the passport")
EVENTS = ("standup", "lunch with Ada", "piano lesson", "design review", "dentist", "parents' evening")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MODES = ("walking", "cycling", "driving", "transit")
NAMES = ("Ada", "Jonas", "Mina", "Oskar", "Lena", "Tomek", "Ines", "Pavel", "Ruth", "Emil")
THANKS = ("Thanks, that was helpful!", "Great, thank you.", "That is all, thanks.")


def function(name: str, description: str, **parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a definition in OpenAI's format; every parameter is required."""
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
TOOLS = [
    function("get_weather", "Current weather of a city.", city=TEXT),
    function("convert_currency", "Convert an amount of money.", amount=NUMBER, source=TEXT, target=TEXT),
    function("set_timer", "Start a timer.", minutes=WHOLE),
    function("convert_units", "Convert a measure.", value=NUMBER, source=TEXT, target=TEXT),
    function("translate", "Translate a text.", text=TEXT, language=TEXT),
    function(
        "add_event", "Add an event to the calendar.", title=TEXT, day={"type": "string", "enum": [*DAYS]}, hour=WHOLE
    ),
    function("add_note", "Keep a note.", text=TEXT),
    function(
        "find_route",
        "Find a route between two cities.",
        start=TEXT,
        end=TEXT,
        mode={"type": "string", "enum": [*MODES]},
    ),
]

Request = tuple[str, str, dict[str, Any]]


def weather(rng: random.Random) -> Request:
    city = rng.choice(CITIES)
    words = rng.choice(
        ("What is the weather in {}?", "Do I need an umbrella in {} today?", "How cold is it in {} now?")
    )
    return words.format(city), "get_weather", {"city": city}


def currency(rng: random.Random) -> Request:
    source, target = rng.sample(CURRENCIES, 2)
    amount = rng.randrange(5, 900)
    words = rng.choice(("How much is {} {} in {}?", "Convert {} {} to {}.", "I have {} {}. What is that in {}?"))
    return (
        words.format(amount, source, target),
        "convert_currency",
        {"amount": amount, "source": source, "target": target},
    )


def timer(rng: random.Random) -> Request:
    minutes = rng.randrange(1, 90)
    words = rng.choice(("Set a timer for {} minutes.", "Wake me in {} minutes.", "{} minutes on the clock, please."))
    return words.format(minutes), "set_timer", {"minutes": minutes}


def units(rng: random.Random) -> Request:
    source, target = rng.sample(rng.choice(UNITS), 2)
    value = rng.randrange(2, 400)
    words = rng.choice(("How many {2} are {0} {1}?", "Convert {0} {1} to {2}.", "{0} {1} in {2}?"))
    return words.format(value, source, target), "convert_units", {"value": value, "source": source, "target": target}


def translation(rng: random.Random) -> Request:
    text, language = rng.choice(PHRASES), rng.choice(LANGUAGES)
    words = rng.choice(('How do I say "{}" in {}?', 'Translate "{}" into {}.', 'What is "{}" in {}?'))
    return words.format(text, language), "translate", {"text": text, "language": language}


def event(rng: random.Random) -> Request:
    title, day, hour = rng.choice(EVENTS), rng.choice(DAYS), rng.randrange(8, 20)
    words = rng.choice(
        ("Put {0} on {1} at {2}:00.", "Schedule {0} for {1}, {2}:00.", "I have {0} on {1} at {2}:00, add it.")
    )
    return words.format(title, day, hour), "add_event", {"title": title, "day": day, "hour": hour}


def note(rng: random.Random) -> Request:
    text = rng.choice(NOTES)
    words = rng.choice(("Note: {}.", "Remind me to {}.", "Write down that I must {}."))
    return words.format(text), "add_note", {"text": text}


def route(rng: random.Random) -> Request:
    (start, end), mode = rng.sample(CITIES, 2), rng.choice(MODES)
    words = rng.choice(
        ("How do I get from {} to {} by {}?", "Route from {} to {}, {}.", "From {} to {}: which way, {}?")
    )
    return words.format(start, end, mode), "find_route", {"start": start, "end": end, "mode": mode}


REQUESTS: tuple[Callable[[random.Random], Request], ...] = (
    *(weather, currency, timer, units),
    *(translation, event, note, route),
)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """Return a request that needs no function, and its answer."""
    a, b = rng.randrange(2, 90), rng.randrange(2, 90)
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return rng.choice(
        (
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"Which is larger, {a} or {b}?", f"{max(a, b)} is larger."),
            (f"Hello, I am {name}.", f"Hello {name}, what can I do for you?"),
            (f"How many letters has {city}?", f"{city} has {len(city)} letters."),
            (f"{rng.choice(THANKS)} Bye from {name}.", f"You are welcome, {name}."),
        )
    )


def conversation(rng: random.Random) -> dict[str, Any]:
    """Return a row: the tools, a request, and the call or the answer in words."""
    if rng.random() < 1 / 8:
        request, answer = small_talk(rng)
        reply: dict[str, Any] = {"role": "assistant", "content": answer}
    else:
        request, name, arguments = rng.choice(REQUESTS)(rng)
        called = {"name": name, "arguments": json.dumps(arguments)}
        reply = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        }
    return {"messages": [{"role": "user", "content": request}, reply], "tools": TOOLS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, default=1200, help="number of distinct conversations, fewer if they run out"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    rows = dict.fromkeys(json.dumps(conversation(rng)) for _ in range(4 * arguments.rows))
    arguments.out.write_text("".join(f"{row}\n" for row in list(rows)[: arguments.rows]))


if __name__ == "__main__":
    main()
