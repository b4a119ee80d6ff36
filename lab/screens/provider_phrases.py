"""The wordings that ask for a row of a provider list.

See `grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases

_DOCTOR = "[provider|doctor|physician|clinician|specialist]"
_NAMED = "[Dr. {name}|{name}|Dr {name}|doctor {name}]"
_VISIT = "[an appointment|a visit|a consultation|a slot|a time]"


ROW_PLAIN = (
    "Select Dr. {name}",
    "Choose Dr. {name} as my provider",
    "Pick the provider Dr. {name}",
    "Book with Dr. {name} ({specialty})",
    "Book an appointment with Dr. {name}",
    "Choose provider {name}",
    "I would like to see Dr. {name}",
    "Make Dr. {name} my doctor",
    "Pick doctor {name}",
    "Select the provider {name}",
    "Choose Dr. {last}",
    "I have decided on Dr. {name}",
    "Find Dr. {name} in the list and click",
    "Can I see Dr. {name}?",
    "My doctor is {name}",
    "Switch me to Dr. {name}",
    "The provider I want is {name}",
    "Click the button for Dr. {name}",
    "I need someone in {only}",
    "Arrange a visit with {name}",
    "Dr. {name} is my choice",
)


ROW_SHORT = (
    "Dr. {name}, please",
    "Pick {name}",
    "{name}",
    "I want Dr. {name}",
    "Click {name}",
    "Click the one for {last}",
    "{last}, please",
    "The one for {first}",
    "Take {name}",
    "Dr. {name}",
    "Choose {name}",
    "{first}, please",
    "Tap {name}",
    "Mine is {last}",
    "Dr. {last} it is",
    "Press {name}",
)


ROW = Phrases(
    commands=(
        f"[Select|Choose|Pick|Book|Take|Click|Go with] {_NAMED}",
        f"[Select|Choose|Pick|Take|Click] {_NAMED} [as|for] my {_DOCTOR}",
        f"[Select|Choose|Pick|Take|Click] the {_DOCTOR} {_NAMED}",
        f"[Select|Choose|Pick|Click] {_NAMED} [from|in|on] the [list|provider list|results]",
        "[Book|Schedule|Make|Set up|Request] [an appointment|a visit|a consultation] "
        f"with {_NAMED}",
        f"[Book|Go|Sign me up] with {_NAMED}",
        "[Book|Go|Schedule] with Dr. {name} [({specialty})|from {specialty}|in {specialty}]",
        f"[Make {_NAMED} my|Set {_NAMED} as my] {_DOCTOR}",
        "[Click|Press|Hit|Tap] the button [next to|beside|for|in the row of] Dr. {name}",
        "[Select|Choose|Pick|Click] Dr. {last}",
        "[Select|Choose|Pick|Click] the one [for|named] {last}",
        "[Choose|Pick|Select|Book] the [{only} provider|{only} doctor|doctor for {only}]",
        f"[Assign|Request|Add] {_NAMED} as [the|my|our] {_DOCTOR}",
        f"[Find|Locate] {_NAMED} and [select|choose|pick|click] [them|the button]",
        f"[Reserve|Arrange|Plan|Organise|Find me] {_VISIT} with {_NAMED}",
        f"Put {_NAMED} down as [my|our|the] {_DOCTOR}",
        f"[Switch|Move|Transfer|Send|Assign] me to {_NAMED}",
        f"[Click|Tap|Press] [on|] the [row|entry|card|line] [of|for|belonging to] {_NAMED}",
        f"[Look for|Search for|Spot] {_NAMED} in the list and [choose|click|select] that one",
        f"[Use|Try|Keep|Prefer|Mark|Touch] {_NAMED}",
        f"[Connect|Match|Pair] me with {_NAMED}",
        f"[See|Visit|Consult|Meet] {_NAMED} [about this|for the check-up|this time|]",
        f"[Take|Choose|Pick] the {_DOCTOR} [called|named|whose name is] {{name}}",
        "[Choose|Pick|Book|Find] [someone|a specialist|whoever works|the person] in {only}",
        f"Name {_NAMED} as the {_DOCTOR} [I want|of my choice|for me]",
        f"[Get|Give] me {_VISIT} with {_NAMED}",
        f"[Take|Choose|Pick] nobody but {_NAMED}",
        f"Let {_NAMED} be [my|our|the] {_DOCTOR}",
        f"[Stick|Stay|Continue] with {_NAMED} [as my {_DOCTOR}|]",
        f"[Squeeze|Fit|Slot] me in with {_NAMED}",
        f"[Sign|Put|Write] me [up|down] [for|with] {_NAMED}",
        f"[Get|Bring|Take] me to {_NAMED}",
        f"[Scroll|Go|Skip|Head] to {_NAMED} and [choose|click|select|book] them",
        f"[Ask|Go] for {_NAMED}",
        f"Make sure [I see|it's|I get] {_NAMED}",
    ),
    remarks=(
        f"I [would like|want|need|wish] to see {_NAMED}",
        f"I'd [like|rather have|prefer] {_NAMED}",
        f"My {_DOCTOR} [is|should be|will be] {_NAMED}",
        f"{_NAMED}[, please| please|]",
        "[Dr. {last}|{last}][, please|]",
        "The [row|entry|one] [of|for|with] [Dr. {name}|{name}][, please|]",
        f"[I was referred to|We go to|I'm going to see] {_NAMED}",
        f"{_NAMED} [is the one|is my choice|is who I want|will do|is fine]",
        f"I [have chosen|have picked|decided on|chose|am going with] {_NAMED}",
        f"[Could|Can|May] I [see|have|get|book] {_NAMED}?",
        f"The {_DOCTOR} [I want|I need|for me|I'm after|we like] is {_NAMED}",
        f"I [was sent to|have been to|know|am a patient of] {_NAMED}, [so|please] [book|pick] them",
        f"[An appointment|A visit|A slot|A consultation] with {_NAMED}[, please|]",
        f"From the [list|results|{_DOCTOR} list], [choose|pick|take] {_NAMED}",
        "[I need|I want|I'm looking for] [someone|a doctor|a specialist] [in|for] {only}",
        f"It's {_NAMED} [I want|I need|I'm here for|that I came for]",
        f"[What|How] about {_NAMED}?",
        f"Is {_NAMED} [on the list|taking patients]? Then [book|pick|choose] them",
        f"The {_DOCTOR} whose [last|family] name is {{last}}",
        f"Since I moved, {_NAMED} [is|has been] my {_DOCTOR}",
        f"[Nobody|No one|No other {_DOCTOR}] but {_NAMED}",
        f"I was [after|hoping for|thinking of|told to see] {_NAMED}",
        f"[My neighbour|My sister|A friend|My nurse] [recommended|praised|goes to] {_NAMED}",
        f"[Is it possible|Would it be possible] to [see|book|get] {_NAMED}?",
        f"[Would|Do] you mind [booking|choosing|picking] {_NAMED}?",
        f"[I'd feel better|I'm happiest|I'm best off] with {_NAMED}",
        f"[Gimme|Wanna see|Gotta see|Need] {_NAMED}",
        f"{_NAMED} [knows me|has my file|treated me before], so [pick|book|choose] them",
    ),
)
