"""The wordings that ask for a field or a button of a claim form, or to enter a value.

See `grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases

_FORM = "[claim|claim form|claim window|insurance claim|form|claim screen]"
_INPUT = "[field|box|input|text box|text field|entry|input field]"
_INTO = "[the {field} field|the {field} box|the {field} input|{field}]"
# Only quotes can close a value that more words follow directly.
_QUOTED = "[\"{value}\"|'{value}']"
_VALUE = f"[{{value}}|{{value}}|{{value}}|{_QUOTED}]"
_SPEAK = "[letter|card|paper|policy|nurse|insurer]"


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
        f"[Click|Click on|Tap|Select|Focus|Activate] the {{field}} {_INPUT}",
        f"[Click|Tap|Select|Focus|Edit] the {{field}} {_INPUT} [of|on|in] the {_FORM}",
        f"[Click|Tap|Select|Edit|Focus|Change] {{field}} [on|in] the {_FORM}",
        "[Put|Place|Set|Move] the [cursor|caret] [in|into] [the {field} field|{field}]",
        f"[Fill in|Fill out|Complete|Enter|Edit|Update|Change] [the|my|] {{field}} "
        f"[on|in] the {_FORM}",
        "[Fill in|Fill out|Complete|Enter|Type in|Provide|Add|Update|Correct] [the|my|] {field}",
        f"[Type|Write|Enter|Put] the {{field}} [into|in] the {_FORM}",
        "[Go|Jump|Move|Tab] to [the {field} field|{field}|the {field} input]",
        "[Click|Tap] [into|inside|in] [the {field} box|{field}]",
        "[Open|Click|Tap] {field} so [I|we] can [type|enter it|fill it in]",
        "[Find|Locate] {field} on the form and click it",
        f"[Start|Begin] typing in the {{field}} {_INPUT}",
        f"[Take|Lead|Move|Send] me to {_INTO}",
        f"[Highlight|Mark|Touch|Point at|Choose|Pick] the {{field}} {_INPUT}",
        f"[Position|Drop|Park] the [cursor|caret] in {_INTO}",
        "[Click|Tap] [where|on the line where] [the|my|] {field} is [entered|asked for|written]",
        f"[Click|Tap|Choose] the [empty|blank|white|right] {_INPUT} [for|of|labelled] {{field}}",
        f"[Use|Try|Take] the {_INPUT} [called|named|marked|that says] {{field}}",
        "[Prepare|Get ready] to [type|enter|fill in] [the|my|] {field}",
        f"[Revise|Amend|Modify|Alter|Fix] [the|my|] {{field}} [on|in] the {_FORM}",
        f"[Choose|Pick] {{field}} [among|from|out of] the [fields|inputs|boxes] of the {_FORM}",
        f"[Look at|See to|Deal with|Attend to] the {{field}} {_INPUT}",
        f"[Look for|Search for|Spot] {_INTO} and [click|tap|select] it",
        f"[Scroll|Skip|Switch] to {_INTO} [of the {_FORM}|]",
        f"[Give|Hand] me the {{field}} {_INPUT}",
    ),
    remarks=(
        "[I need to|I want to|I have to|Let me] [enter|fill in|edit|change|type] [the|my|] {field}",
        "[The|] {field} is [missing|wrong|empty|still blank][, click it|, go there|]",
        f"[Next is|Now for|Now] the {{field}} {_INPUT}",
        "{field} [field|box|input]",
        "Where it says {field}, click there",
        "I [skipped|missed|left out|overlooked] [the|my|] {field}[, let me add it|, go there|]",
        "[My|The] {field} [has changed|needs fixing|must be corrected|is not right|is out of date]",
        f"[Where|In which {_INPUT}] do I [enter|write|type|put] [the|my|] {{field}}?",
        "[There is|I see|I made] a [mistake|typo|misprint] in [the|my|] {field}",
        f"The {_INPUT} [I need|I want|to fill in|to click|I'm looking for] is {{field}}",
        "[I'm ready|Ready|Time] to [enter|fill in|type] [the|my|] {field}",
        f"[On|In] the {_FORM}, [click|select|focus|go to] {_INTO}",
        "[Still to do|Still missing|Not yet filled in|To be completed]: {field}",
        "[May|Can|Could] I [enter|change|fill in|correct] [the|my|] {field}?",
        f"It's [the|] {{field}} [{_INPUT}|] [I want|I need|that I have to fill in]",
        "[They|The insurer|The office] [asked for|wants|needs] [the|my] {field}, let me type it",
        f"The {_INPUT} with the [label|name|words] {{field}}",
        "I [got|have] [the|my] {field} [here|at hand], [so|] [let me|I'll] enter it",
    ),
)


TYPE_PLAIN = (
    "Enter {value} as the {field}",
    "Set {field} to {value}",
    "Type {value} into {field}",
    "{field}: {value}",
    "Fill in {field} with {value}",
    "Put {value} in the {field} field",
    'Type "{value}" into the {field} box',
    "Change the {field} to {value}",
    "The {field} is {value}",
    "Write {value} in {field}",
    "Click {field} and type {value}",
    "{value} is the {field}",
    "Enter '{value}' for {field}",
    "Use {value} as {field}",
)


TYPE = Phrases(
    commands=(
        f"[Enter|Type|Write|Put|Insert|Key in] {_VALUE} [as|for] [the|my|] {{field}}",
        f"[Enter|Type|Write|Put|Insert|Add|Key in] {_VALUE} [in|into] {_INTO}",
        f"[Set|Change|Update|Correct|Edit|Switch] [the|my|] {{field}} to {_VALUE}",
        f"[Fill in|Fill|Complete] {_INTO} with {_VALUE}",
        f"[Fill in|Enter|Type|Put] {_VALUE} where it [asks for|says|reads] {{field}}",
        f"[Click|Select|Focus|Go to|Open|Tap] {_INTO} and [type|enter|write|put in] {_VALUE}",
        f"[Click|Tap|Select|Open] {{field}}, then [type|enter|write] {_VALUE}",
        f"[Type|Enter|Write] {_VALUE} [on|in] the {_FORM} [as|for] [the|my|] {{field}}",
        f"[Replace|Overwrite] what is in {_INTO} with {_VALUE}",
        f"[Use|Take|Give|Provide|Supply|State|Specify] {_VALUE} [as|for] [the|my|] {{field}}",
        f"[Put|Write|Enter|Type] [this|the following] [in|into] {_INTO}: {_VALUE}",
        f"[Enter|Type|Fill in|Set|Update] [the|my|] {{field}}: {_VALUE}",
        f"[Enter|Type|Fill in|Give|Add] [the|my|] {{field}}, [which is|it's|namely] {_VALUE}",
        f"Make [the|my|] {{field}} {_VALUE}",
        f"[Register|List|File|Log] {_VALUE} as [the|my|] {{field}}",
        f"[Paste|Place|Drop|Stick] {_VALUE} [in|into|inside] {_INTO}",
        f"Tell the {_FORM} that [the|my|] {{field}} is {_VALUE}",
        f"[Assign|Give] {_VALUE} to {_INTO}",
        f"[Give|Assign] {_INTO} the [value|text|content] {_VALUE}",
        f"[Fix|Correct] [the|my|] {{field}}: it [should|ought to|must] be {_VALUE}",
        f"[Spell|Print|Type out] {_VALUE} in [the|my|] {{field}} {_INPUT}",
        f"[Enter|Type|Write] {_QUOTED} {{field}}",
        f"[Enter|Type|Write|Put] {{field}} {_QUOTED} [on|in|into] the {_FORM}",
        f"[Use|Take] the {{field}} {_INPUT} to [enter|write|type] {_VALUE}",
        f"[Swap|Trade] what {{field}} holds for {_VALUE}",
    ),
    remarks=(
        f"{{field}}: {_VALUE}",
        f"{{field}} [=|-|->] {_VALUE}",
        f"{{field}} {_QUOTED}",
        f"[The|My|] {{field}} [is|should be|must be|has to be|ought to be|will be] {_VALUE}",
        f"{_VALUE} [is|was|would be] [the|my|our] {{field}}",
        f"{_VALUE} [goes|belongs|should go] [in|into] {_INTO}",
        f"[For|At|In] {_INTO}, [enter|type|write|put] {_VALUE}",
        f"[On|In] the {_FORM}, [the|my|] {{field}} [is|should be|must be] {_VALUE}",
        f"[On|In] the {_FORM}, [set|change|update] [the|my|] {{field}} to {_VALUE}",
        f"I [need|want|have] to [enter|put|type|write] {_VALUE} [in|into] {_INTO}",
        f"I'd like {_VALUE} [as|for] [the|my|] {{field}}",
        f"[We|They|The insurer] [want|need|expect] {_VALUE} [in|for|as] [the|] {{field}}",
        f"[My|The] {_SPEAK} [says|gives|states] {_VALUE} [as|for] [the|my|] {{field}}",
        f"{_VALUE} [for|as|in] [the|my|] {{field}}[, please|]",
        f"[New|Correct|Right|Updated] {{field}}: {_VALUE}",
        f"The {{field}} {_INPUT} [gets|takes|needs|wants] {_VALUE}",
        f"[The|My] {{field}} has changed to {_VALUE}",
        f"[Where it says|Next to|After] {{field}}, [type|enter|write|put] {_VALUE}",
        f"[What|The text] [I want|to put|that goes] in {_INTO} is {_VALUE}",
        f"[Value|Text|Entry|Content] for {_INTO}: {_VALUE}",
        f"[The|My] {{field}} is [wrong|missing|blank|empty]: [enter|type|put] {_VALUE}",
        f"If [it asks|they ask] for [the|my|] {{field}}, [give|enter|type] {_VALUE}",
        f"{_QUOTED}, that's [the|my] {{field}}",
        f"{_QUOTED} {{field}}",
        f"[Can|Could] [the|my] {{field}} be [set|changed] to {_VALUE}",
        f"I was [given|told|sent] {_VALUE} [as|for] [the|my|] {{field}}",
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
        f"[Click|Press|Hit|Push|Tap|Use] the {{button}} button [of|on|in] the {_FORM}",
        f"[Click|Press|Hit|Push|Tap] {{button}} [on|in] the {_FORM}",
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
        f"[Make|Have] the {_FORM} do this: {{button}}",
    ),
    remarks=(
        "{button} [for|on] [this|the|my] [claim|form|request]",
        "{button}[, please| please| now|]",
        "[Time to|I'm ready, so|I want to|Let me] click {button}",
        "The {button} button[, please|]",
        "I [need|have|would like] to [press|click|hit|use] {button}",
        f"I'm done with the {_FORM}, [click|press|hit] {{button}}",
        "[Just|Only|One|A] [click|press|tap] on {button}[, please|]",
        "Where it says {button}, [click|press|tap]",
        "{button} is [the one|the button] [I want|to press|to click|I mean]",
        f"[On|In] the {_FORM}, [press|click|hit|use] {{button}}",
        "What I [want|need] is [the {button} button|{button}]",
        "[Everything is filled in|It looks good|That's all], so [press|click] {button}",
        "[Can|May|Could] I [press|click|use] {button}?",
    ),
)
