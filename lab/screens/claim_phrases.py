"""The wordings that ask for a field or a button of a claim form.

Those that ask to enter a value are in `type_phrases`.

See `grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases
from .type_phrases import FORM, INPUT, INTO

FIELD_PLAIN = (
    "Click the {field} field of the claim",
    "Put the cursor in {field}",
    "Fill in {field} on the claim form",
    "Enter the {field}",
    "Focus the {field} box",
    "Type the {field} into the claim",
    "Go to the {field} input",
    "Edit {field} in the claim window",
    "I need to fill in {field}",
    "Take me to {field} on the form",
    "The {field} has changed",
    "Choose the box for {field}",
    "Where do I enter the {field}?",
    "Select the input labelled {field}",
    "My {field} is still missing",
    "Correct the {field} of this claim",
)


FIELD_SHORT = (
    "Click {field}",
    "{field}, please",
    "Pick the one that says {field}",
    "{field}",
    "Tap {field}",
    "I want {field}",
    "Select {field}",
    "Edit {field}",
    "Open {field}",
    "Now {field}",
    "The {field}",
    "Press {field}",
    "Touch {field}",
    "To {field}",
)


FIELD = Phrases(
    commands=(
        f"[Click|Click on|Tap|Select|Focus|Activate] the {{field}} {INPUT}",
        f"[Click|Tap|Select|Focus|Edit] the {{field}} {INPUT} [of|on|in] the {FORM}",
        f"[Click|Tap|Select|Edit|Focus|Change] {{field}} [on|in] the {FORM}",
        "[Put|Place|Set|Move] the [cursor|caret] [in|into] [the {field} field|{field}]",
        f"[Fill in|Fill out|Complete|Enter|Edit|Update|Change] [the|my|] {{field}} "
        f"[on|in] the {FORM}",
        "[Fill in|Fill out|Complete|Enter|Type in|Provide|Add|Update|Correct] [the|my|] {field}",
        f"[Type|Write|Enter|Put] the {{field}} [into|in] the {FORM}",
        "[Go|Jump|Move|Tab] to [the {field} field|{field}|the {field} input]",
        "[Click|Tap] [into|inside|in] [the {field} box|{field}]",
        "[Open|Click|Tap] {field} so [I|we] can [type|enter it|fill it in]",
        "[Find|Locate] {field} on the form and click it",
        f"[Start|Begin] typing in the {{field}} {INPUT}",
        f"[Take|Lead|Move|Send] me to {INTO}",
        f"[Highlight|Mark|Touch|Point at|Choose|Pick] the {{field}} {INPUT}",
        f"[Position|Drop|Park] the [cursor|caret] in {INTO}",
        "[Click|Tap] [where|on the line where] [the|my|] {field} is [entered|asked for|written]",
        f"[Click|Tap|Choose] the [empty|blank|white|right] {INPUT} [for|of|labelled] {{field}}",
        f"[Use|Try|Take] the {INPUT} [called|named|marked|that says] {{field}}",
        "[Prepare|Get ready] to [type|enter|fill in] [the|my|] {field}",
        f"[Revise|Amend|Modify|Alter|Fix] [the|my|] {{field}} [on|in] the {FORM}",
        f"[Choose|Pick] {{field}} [among|from|out of] the [fields|inputs|boxes] of the {FORM}",
        f"[Look at|See to|Deal with|Attend to] the {{field}} {INPUT}",
        f"[Look for|Search for|Spot] {INTO} and [click|tap|select] it",
        f"[Scroll|Skip|Switch] to {INTO} [of the {FORM}|]",
        f"[Give|Hand] me the {{field}} {INPUT}",
        f"[Get|Bring|Guide] me to {INTO}[ so that I can type|]",
        f"[Continue|Proceed|Head|Return|Turn] to {INTO}",
        "[Set|Leave|Put] the [cursor|caret] where [the|my] {field} [goes|belongs|is entered]",
        f"[Work on|Take care of|Handle|Tackle] {INTO} [of the {FORM}|]",
        f"[Click|Tap|Select] the {INPUT} [that asks for|which is for] [the|my] {{field}}",
        "[Insert|Record|Supply|Put down|Note] [the|my] {field}",
        f"[Make|Have] the {{field}} {INPUT} [active|ready]",
    ),
    remarks=(
        "[I need to|I want to|I have to|Let me] [enter|fill in|edit|change|type] [the|my|] {field}",
        "[The|] {field} is [missing|wrong|empty|still blank][, click it|, go there|]",
        f"[Next is|Now for|Now] the {{field}} {INPUT}",
        "{field} [field|box|input]",
        "Where it says {field}, click there",
        "I [skipped|missed|left out|overlooked] [the|my|] {field}[, let me add it|, go there|]",
        "[My|The] {field} [has changed|needs fixing|must be corrected|is not right|is out of date]",
        f"[Where|In which {INPUT}] do I [enter|write|type|put] [the|my|] {{field}}?",
        "[There is|I see|I made] a [mistake|typo|misprint] in [the|my|] {field}",
        f"The {INPUT} [I need|I want|to fill in|to click|I'm looking for] is {{field}}",
        "[I'm ready|Ready|Time] to [enter|fill in|type] [the|my|] {field}",
        f"[On|In] the {FORM}, [click|select|focus|go to] {INTO}",
        "[Still to do|Still missing|Not yet filled in|To be completed]: {field}",
        "[May|Can|Could] I [enter|change|fill in|correct] [the|my|] {field}?",
        f"It's [the|] {{field}} [{INPUT}|] [I want|I need|that I have to fill in]",
        "[They|The insurer|The office] [asked for|wants|needs] [the|my] {field}, let me type it",
        f"The {INPUT} with the [label|name|words] {{field}}",
        "I [got|have] [the|my] {field} [here|at hand], [so|] [let me|I'll] enter it",
        f"I was [after|looking for|going to click|about to fill in] {INTO}",
        f"[Would|Do] you mind [clicking|opening|going to] {INTO}?",
        f"[Which is|Where is] the {INPUT} for [the|my] {{field}}?",
        "I [forgot|never gave|haven't entered|still have to give] [the|my] {field}",
        "[They need|Somebody wants|The nurse asks for] my {field}. Where does it go?",
        f"I'd [rather|sooner] start with {INTO}",
        f"Let me [into|edit|reach|get at|type in] {INTO}",
        "[Gotta|Wanna|Gonna] [enter|fill in|change] [the|my] {field}",
    ),
)


BUTTON_PLAIN = (
    "Click {button}",
    "Press the {button} button in the claim window",
    "{button} for this claim",
    "Hit {button}",
    "Use the {button} button on the claim form",
    "Push {button} in the claim window",
    "Press {button}",
    "Click the button that says {button}",
    "I want to press {button}",
    "Tap the {button} button",
    "Now {button}",
    "I'm done, click {button}",
    "Find {button} and press it",
    "The button {button}, please",
)


BUTTON_SHORT = (
    "Click {button}",
    "{button}, please",
    "Pick the one that says {button}",
    "{button}",
    "Tap {button}",
    "I want {button}",
    "Select {button}",
    "Choose {button}",
    "Push {button}",
    "Touch {button}",
    "Then {button}",
    "{button} now",
    "To {button}",
    "Just {button}",
)


BUTTON = Phrases(
    commands=(
        "[Click|Click on|Press|Hit|Push|Tap|Use] [the {button} button|{button}]",
        f"[Click|Press|Hit|Push|Tap|Use] the {{button}} button [of|on|in] the {FORM}",
        f"[Click|Press|Hit|Push|Tap] {{button}} [on|in] the {FORM}",
        "[Click|Press|Hit|Tap] the button [labelled|that says|named|marked|called] {button}",
        "[Choose|Select|Pick] {button} [for|on] [this|the] claim",
        "[Find|Locate] the {button} button and [click|press|hit] it",
        "[Choose|Select|Pick] the button [that reads|with the words|with the label] {button}",
        "[Finish|End|Close this] by [clicking|pressing|hitting|choosing] {button}",
        "[Touch|Punch|Poke|Smash] [the {button} button|{button}]",
        "[Look for|Search for|Spot] [the button|] {button} and [click|press|tap] it",
        "[Move|Point] the [mouse|pointer|cursor] [to|at] {button} and click",
        "[Run|Perform|Carry out|Execute] [the {button} action|{button}]",
        "[Click|Press|Push] [on|] the one [that says|labelled|marked] {button}",
        f"[Make|Have] the {FORM} do this: {{button}}",
    ),
    remarks=(
        "{button} [for|on] [this|the|my] [claim|form|request]",
        "{button}[, please| please| now|]",
        "[Time to|I'm ready, so|I want to|Let me] click {button}",
        "The {button} button[, please|]",
        "I [need|have|would like] to [press|click|hit|use] {button}",
        f"I'm done with the {FORM}, [click|press|hit] {{button}}",
        "[Just|Only|One|A] [click|press|tap] on {button}[, please|]",
        "Where it says {button}, [click|press|tap]",
        "{button} is [the one|the button] [I want|to press|to click|I mean]",
        f"[On|In] the {FORM}, [press|click|hit|use] {{button}}",
        "What I [want|need] is [the {button} button|{button}]",
        "[Everything is filled in|It looks good|That's all], so [press|click] {button}",
        "[Can|May|Could] I [press|click|use] {button}?",
    ),
)
