"""What the law asks to be written, filled in from the site as it is: sign at the door, record, skeleton of the assessment."""

from html import escape

from passerby.site import Site

OPEN = "[to be filled in]"


def documents(site: Site, *, controller: str = OPEN, contact: str = OPEN) -> dict[str, str]:
    """Each document's text by its file name. They name no camera's address.

    `controller` is who decides what the cameras are for, `contact` how that one, or the data-protection officer, is reached.
    """
    return {
        "sign.html": sign(site, controller=controller, contact=contact),
        "record.md": record(site, controller=controller, contact=contact),
        "assessment.md": assessment(site, controller=controller, contact=contact),
    }


def sign(site: Site, *, controller: str, contact: str) -> str:
    """The sign at the door: one printed page (HTML), without a script or anything from elsewhere."""
    lines = [
        ("Who", controller),
        ("What for", f"Counting visitors of {site.name}: how many come, how long they stay, where they walk."),
        ("How", f"{_cameras(site)} Video is turned into numbers at once and is not stored. {_identified(site)}"),
        (
            "How long",
            f"Traces of one visit: {_days(site)}. What tells people apart: until {_window(site)} after the visit.",
        ),
        (
            "Your rights",
            "To ask, to object, to have your visit erased: tell us when and where you were, and how you looked.",
        ),
        ("Contact", contact),
    ]
    rows = "\n".join(f"<dt>{escape(name)}</dt>\n<dd>{escape(text)}</dd>" for name, text in lines)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Visitors are counted here: {escape(site.name)}</title>
<style>
@page {{ size: A4; margin: 18mm }}
body {{ font: 16pt/1.4 system-ui, sans-serif; max-width: 40em; margin: auto; padding: 1em }}
h1 {{ font-size: 30pt; margin: 0 0 .5em }}
dt {{ font-weight: 600; margin-top: .7em }}
dd {{ margin: 0 }}
</style>
</head>
<body>
<h1>Visitors are counted here</h1>
<dl>
{rows}
</dl>
</body>
</html>
"""


def record(site: Site, *, controller: str, contact: str) -> str:
    """The record of processing (Markdown), as Article 30 of the GDPR asks for."""
    rows = [
        ("Controller", controller),
        ("Contact, data-protection officer", contact),
        ("Purpose", "Counting visitors; their number, dwell and ways through the shop, as statistics"),
        ("Persons concerned", f"Who enters, or walks past, {site.name}; staff too"),
        (
            "Data",
            "Pictures (in memory only); vectors that tell people apart; paths, stays, times, under a number a visit",
        ),
        (
            "Special categories",
            "None is sought: no face is recognised, no name is known, vectors are of clothes and build",
        ),
        ("Source", _cameras(site)),
        ("Places watched", f"{_named(site.zones, 'zone')}, {_named(site.lines, 'line')}; {_masks(site)}"),
        ("Recipients", "Users of the service by their role; nobody else, nothing is sent away by the software itself"),
        ("Transfers to third countries", f"None by the software. Hosting: {OPEN}"),
        ("Pictures", "Not stored. What is shown live has heads blurred and masks burned in"),
        ("Vectors", f"Until {_window(site)} after the visit; on disk encrypted, a key for each visit"),
        ("Visits, paths, stays, links", _days(site)),
        *(_guests() if site.guests else ()),
        ("Counts (entries, exits, occupancy, queues)", "Kept; they are of nobody"),
        ("Small groups", f"Personal detail is withheld of fewer than {site.k} people, and what would give it away"),
        ("Security", "Logins with roles, keys as hashes, TLS or a trusted proxy, an audit log whose rows are chained"),
        ("Legal basis", f"{OPEN} (such as legitimate interest, with its balancing test)"),
    ]
    table = "\n".join(f"| {name} | {text.replace('|', '/')} |" for name, text in rows)
    return f"""# Record of processing: {site.name}

Made by `passerby privacy documents` from the site's file. What it cannot know reads {OPEN}.

| | |
|---|---|
{table}
"""


def assessment(site: Site, *, controller: str, contact: str) -> str:
    """A skeleton (Markdown) of the data-protection impact assessment of Article 35 of the GDPR."""
    small = "" if site.k > 1 else " **k is 1: small groups are shown. This is for sites whose people are drawn.**"
    return f"""# Data-protection impact assessment: {site.name}

Made by `passerby privacy documents` from the site's file. Controller: {controller}. Contact: {contact}. A person must complete and decide it.

## 1. What is done

{_cameras(site)} A program finds people in the pictures, follows each through {site.name}, and links what several cameras saw by how
people look and how long the ways take. Kept are numbers: who (a number a visit) was in which zone, from when to when. Time zone:
{site.time_zone}. Systematic watching of a place open to the public: an assessment is needed (Article 35(3)(c)).

## 2. Is it needed, and is there less

- Purpose and legal basis: {OPEN}
- Would counting at the door, without following, do? {OPEN}
- Places that are left out: {_masks(site)}; others that should be: {OPEN}

## 3. Risks, and what is done about them

| risk | what the software does | left to do |
|---|---|---|
| someone is recognised in a picture | nothing is stored; heads are blurred, masks burned in before anything is shown | {OPEN} |
| someone is known again for long | vectors go {_window(site)} after the visit; keys are destroyed by the day | {OPEN} |
| someone is picked out of figures | groups below {site.k} are withheld, with what would give them away.{small} | {OPEN} |
| traces are kept for too long | visits go after {_days(site)} | {OPEN} |
| data is stolen | roles, hashed keys, chained audit log, encrypted vectors; disk encryption is the operator's | {OPEN} |
| staff is watched at work | staff may be left out of figures; agreement with the works council: | {OPEN} |
{_guest_risk() if site.guests else ""}| someone asks for erasure | one call takes a visit out, to the last byte (SQLite) | how a person names their visit: {OPEN} |

## 4. Who was asked

Persons concerned or those who speak for them, the data-protection officer: {OPEN}

## 5. Decision

{OPEN}
"""


def _identified(site: Site) -> str:
    if site.guests:
        return "Guests who agreed to it beforehand are recognised; nobody else is."
    return "Nobody is identified."


def _guests() -> list[tuple[str, str]]:
    return [
        (
            "Guests who enrolled",
            "Recognised by their looks, by consent (Article 6(1)(a)), each with a purpose and an end of two years at most, which may be "
            "withdrawn at any time",
        ),
        (
            "Data of guests",
            "A label, the purpose, from whom the consent came, its times; a vector, encrypted, a key for each. The vector goes when the "
            "consent ends or is withdrawn, the consent when it is erased. Where a guest was seen is not written down",
        ),
        ("How a consent is asked for and proved", OPEN),
    ]


def _guest_risk() -> str:
    return (
        "| a guest is recognised who does not want it | off unless the site's file allows it; a consent with purpose and end; "
        f"withdrawal counts at once | who asks, and how freely it is given: {OPEN} |\n"
        "| somebody else is taken for a guest | a guest is named from the site's threshold on, with the probability | "
        f"what is done on seeing one: {OPEN} |\n"
    )


def _cameras(site: Site) -> str:
    number = len(site.cameras)
    return f"{number} camera{'s' if number > 1 else ''}: {', '.join(camera.name for camera in site.cameras)}."


def _named(places: tuple[object, ...], word: str) -> str:
    names = [getattr(place, "name", "") for place in places]
    return f"{len(names)} {word}{'' if len(names) == 1 else 's'}" + (f" ({', '.join(names)})" if names else "")


def _masks(site: Site) -> str:
    masked = [camera.name for camera in site.cameras if camera.masks]
    return f"masks in {', '.join(masked)}" if masked else "no camera has a mask"


def _days(site: Site) -> str:
    return f"{site.retention_days} day{'' if site.retention_days == 1 else 's'}"


def _window(site: Site) -> str:
    return f"{site.reentry_h:g} hour{'' if site.reentry_h == 1 else 's'}"
