"""The words that screens show: names, labels, headings, and filler text."""

from __future__ import annotations

import random


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


MONTHS = _split(
    "January February March April May June July August September October November December"
)
WEEKDAYS = _split("Sunday Monday Tuesday Wednesday Thursday Friday Saturday")

FIRST_NAMES = _split(
    "Adam Aisha Alice Amir Ana Anders Anita Antonio Arjun Astrid Beatriz Ben Bianca Boris Camille "
    "Carlos Chloe Clara Colin Dana Daniel Deepak Diego Elena Eli Emma Erik Esther Fatima Felix "
    "Fiona Frank George Gita Grace Hana Harold Helen Henrik Hugo Ibrahim Ines Irene Isaac Ivan "
    "Jack James Jana Javier Joan John Julia Kamal Karen Keiko Kenji Kofi Laura Leila Leo Linda "
    "Louis Lucy Luis Marcus Maria Maya Mei Michael Mina Mohamed Monica Nadia Nathan Nina Noah "
    "Nora Olga Omar Oscar Paul Pavel Peter Priya Quinn Rachel Raj Rosa Ruth Sam Sara Sean Sofia "
    "Stefan Susan Tariq Tessa Theo Tom Uma Vera Victor Walter Wei Xin Yara Yusuf Zoe"
)
LAST_NAMES = _split(
    "Abbott Adler Ahmed Almeida Andersen Baker Banerjee Bauer Becker Bennett Bianchi Brandt Brooks "
    "Byrne Campbell Cardoso Castro Chen Clarke Cohen Costa Dang Davis Delgado Duarte Dubois Dunn "
    "Edwards Eriksson Farouk Ferrari Fischer Flores Foster Fujita Garcia Gomez Graham Gupta Haddad "
    "Hansen Harris Hassan Hayes Hoffman Hughes Ito Ivanov Jackson Jain Jensen Johnson Kaya Keller "
    "Khan Kim Klein Kowalski Kumar Larsen Lee Levy Lewis Lindgren Liu Lopez Lund Mancini Mbeki "
    "Mehta Meyer Miller Moore Morales Murphy Nair Nakamura Nguyen Nielsen Novak Obi Okafor Olsen "
    "Ortiz Osei Park Patel Perez Petrov Phillips Popov Rahman Ramos Rao Reyes Richter Rivera "
    "Rojas Rossi Russo Ryan Saito Salazar Santos Sato Schmidt Shah Sharma Silva Singh Smith "
    "Sokolov Suzuki Tanaka Taylor Thomas Torres Tran Turner Varga Vega Walker Wang Watson Weber "
    "White Wilson Wong Wright Yamada Young Zhang Zimmer"
)
SPECIALTIES = (
    "Dermatology",
    "Cardiology",
    "Pediatrics",
    "Family Medicine",
    "Neurology",
    "Oncology",
    "Physical Therapy",
    "Orthopedics",
    "Psychiatry",
    "Urology",
    "Dentistry",
    "Radiology",
    "Internal Medicine",
    "Allergy",
    "Optometry",
    "Podiatry",
    "Gynecology",
    "Surgery",
    "Endocrinology",
    "Rheumatology",
)
COMMON_FIELDS = (
    "Claim number",
    "Date of service",
    "Amount billed",
    "Diagnosis code",
    "Member ID",
    "Group number",
    "Place of service",
    "Notes",
)
OTHER_FIELDS = (
    "Patient name",
    "Policy number",
    "Procedure code",
    "Provider NPI",
    "Date of birth",
    "Phone",
    "Email",
    "Total paid",
    "Copay",
    "Address",
    "Employer",
    "Plan name",
    "Invoice number",
    "Deductible",
    "Comments",
    "Referral number",
    "Relationship",
    "Claim type",
    "Facility name",
    "Tax ID",
    "Account number",
    "Zip code",
    "Reason for visit",
    "Currency",
    "Accident date",
    "Subscriber name",
)
MAIN_BUTTONS = ("Submit claim", "Attach receipt", "Save draft", "Cancel")
OTHER_BUTTONS = (
    "Back",
    "Next",
    "Help",
    "Delete",
    "Upload file",
    "Reset",
    "Preview",
    "Continue",
    "Add line",
    "Withdraw claim",
    "Clear form",
    "Check eligibility",
    "Save",
    "Submit",
)
CALENDAR_HEADINGS = (
    "Appointment date",
    "Choose a visit date",
    "When would you like to come?",
    "Date of service",
    "Pick a date",
    "Select date",
    "Schedule a visit",
    "Calendar",
    "Book a day",
    "Your appointment",
    "Visit date",
    "Availability",
    "Choose a day",
    "Reschedule",
    "Next visit",
    "When?",
)
CLAIM_HEADINGS = (
    "Submit a claim",
    "New claim",
    "Claim details",
    "Reimbursement request",
    "Claim form",
    "Insurance claim",
    "File a claim",
    "Expense claim",
    "Claim",
    "Claim window",
    "Medical claim",
    "Edit claim",
)
PROVIDER_HEADINGS = (
    "Find a provider",
    "Providers near you",
    "In-network doctors",
    "Choose your doctor",
    "Doctors",
    "Your care team",
    "Select a provider",
    "Available doctors",
    "Search results",
    "Physicians",
    "Provider directory",
    "Specialists",
)
NAVIGATION = (
    "Home",
    "Overview",
    "Claims",
    "Calendar",
    "Providers",
    "Messages",
    "Account",
    "Coverage",
    "Benefits",
    "Documents",
    "Billing",
    "Settings",
    "Records",
    "About",
    "Contact",
    "Plans",
    "News",
    "Inbox",
    "Profile",
    "Reports",
    "Log out",
)
FILLER = _split(
    "garden river history report market music update travel science team policy city winter "
    "engine morning paper window letter station bridge summer coffee forest island question answer "
    "number people water country office change reason moment result evening picture village "
    "teacher animal doctor family service account payment project system network server value "
    "model data chapter story second minute member public order company member group point area "
    "money house state night field center table corner matter level study member budget energy "
    "sector weather season league player coach record album artist concert museum theatre recipe "
    "kitchen market garden flower ocean mountain valley desert planet rocket signal camera engine "
    "the a of and to in for with on from by at as over after before near under between about"
)

_ONSETS = _split("bl br cl cr dr fl fr gl gr kl pl pr sk sn sp tr tw v w z k p f g")
_CODAS = ("", "", "b", "d", "ft", "g", "k", "lm", "nk", "p", "x", "zz")


def person(rng: random.Random) -> tuple[str, str]:
    return rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)


def sentence(rng: random.Random, length: int) -> str:
    """Words without meaning, as long as asked."""
    return " ".join(rng.choice(FILLER) for _ in range(length)).capitalize()


def title(rng: random.Random) -> str:
    return sentence(rng, rng.randint(1, 4))


def invented_word(rng: random.Random) -> str:
    """A word that can be said and means nothing."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice("aeiou") + rng.choice(_CODAS)
        for _ in range(rng.choice((2, 2, 3)))
    )
