"""The wordings that ask to enter a value into a field of a claim form.

See `grammar.Phrases` for the notation.
"""

from __future__ import annotations

from .grammar import Phrases

FORM = "[claim|claim form|claim window|insurance claim|form|claim screen]"
INPUT = "[field|box|input|text box|text field|entry|input field]"
INTO = "[the {field} field|the {field} box|the {field} input|{field}]"
# Only quotes can close a value that more words follow directly.
_QUOTED = "[\"{value}\"|'{value}']"
_VALUE = f"[{{value}}|{{value}}|{{value}}|{_QUOTED}]"
_SPEAK = "[letter|card|paper|policy|nurse|insurer]"
_SHEET = "[card|letter|paper|policy|invoice|badge|note|statement|receipt|scan|e-mail]"
_READS = "[says|reads|contains|shows|holds]"
_SPACE = "[gap|blank|line|space|slot]"


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
    "Here is my {field}: {value}",
    "My card says {value} for {field}",
    "In {field}, put {value}",
    "I want {field} to be {value}",
    "Go to {field}. Then type {value}",
    "{value} goes into {field}",
)


TYPE = Phrases(
    commands=(
        f"[Enter|Type|Write|Put|Insert|Key in] {_VALUE} [as|for] [the|my|] {{field}}",
        f"[Enter|Type|Write|Put|Insert|Add|Key in] {_VALUE} [in|into] {INTO}",
        f"[Set|Change|Update|Correct|Edit|Switch] [the|my|] {{field}} to {_VALUE}",
        f"[Fill in|Fill|Complete] {INTO} with {_VALUE}",
        f"[Fill in|Enter|Type|Put] {_VALUE} where it [asks for|says|reads] {{field}}",
        f"[Click|Select|Focus|Go to|Open|Tap] {INTO} and [type|enter|write|put in] {_VALUE}",
        f"[Click|Tap|Select|Open] {{field}}, then [type|enter|write] {_VALUE}",
        f"[Type|Enter|Write] {_VALUE} [on|in] the {FORM} [as|for] [the|my|] {{field}}",
        f"[Replace|Overwrite] what is in {INTO} with {_VALUE}",
        f"[Use|Take|Give|Provide|Supply|State|Specify] {_VALUE} [as|for] [the|my|] {{field}}",
        f"[Put|Write|Enter|Type] [this|the following] [in|into] {INTO}: {_VALUE}",
        f"[Enter|Type|Fill in|Set|Update] [the|my|] {{field}}: {_VALUE}",
        f"[Enter|Type|Fill in|Give|Add] [the|my|] {{field}}, [which is|it's|namely] {_VALUE}",
        f"Make [the|my|] {{field}} {_VALUE}",
        f"[Register|List|File|Log] {_VALUE} as [the|my|] {{field}}",
        f"[Paste|Place|Drop|Stick] {_VALUE} [in|into|inside] {INTO}",
        f"Tell the {FORM} that [the|my|] {{field}} is {_VALUE}",
        f"[Assign|Give] {_VALUE} to {INTO}",
        f"[Give|Assign] {INTO} the [value|text|content] {_VALUE}",
        f"[Fix|Correct] [the|my|] {{field}}: it [should|ought to|must] be {_VALUE}",
        f"[Spell|Print|Type out] {_VALUE} in [the|my|] {{field}} {INPUT}",
        f"[Enter|Type|Write] {_QUOTED} {{field}}",
        f"[Enter|Type|Write|Put] {{field}} {_QUOTED} [on|in|into] the {FORM}",
        f"[Use|Take] the {{field}} {INPUT} to [enter|write|type] {_VALUE}",
        f"[Swap|Trade] what {{field}} holds for {_VALUE}",
        f"[Jot down|Note|Note down|Record|Punch in|Submit] {_VALUE} [as|for] [the|my|] {{field}}",
        f"[Pop|Stick|Key|Get|Tap] {_VALUE} [in|into] {INTO}",
        f"[Have|Let] {INTO} [say|contain|show|hold] {_VALUE}",
        f"Let [the|my|our] {{field}} be {_VALUE}",
        f"[Ensure|Make sure|See to it] that {INTO} {_READS} {_VALUE}",
        f"[Read|Take|Copy|Get] [the|my] {{field}} [off|from] [this|my|the] {_SHEET}: {_VALUE}",
        f"[Copy|Transfer|Carry over] {_QUOTED} from [the|my] {_SHEET} [to|into] {INTO}",
        f"[Copy|Transfer|Add|Send] {_VALUE} [to|into] {INTO}",
        f"[Leave|Keep|Have] nothing but {_VALUE} in {INTO}",
        f"[Clear|Empty|Wipe] {INTO} and [type|enter|put] {_VALUE}",
        f"[Click|Tap|Open] {INTO} and [type|enter|put] {_VALUE} in [it|there]",
        f"[Move|Jump|Tab|Skip|Hop] to {INTO} and [key in|type|enter|write] {_VALUE}",
        f"[Use|Take|Remember] {_QUOTED} when [filling in|completing|you get to] {INTO}",
        f"[Fill|Complete] the {_SPACE} [for|next to|after] {{field}} with {_VALUE}",
        f"[Put|Type|Write] {_VALUE} in the {_SPACE} [for|marked|labelled|called] {{field}}",
        f"[Answer|Respond to|Complete] {INTO} with {_VALUE}",
        f"[Declare|Report|Indicate|Mention|Quote|Show] {_VALUE} as [the|my|our] {{field}}",
        f"[Insert|Add|Supply] the missing {{field}}[, which is|, namely|:] {_VALUE}",
        f"[Change|Amend|Alter|Revise] {INTO} so [that|] it {_READS} {_VALUE}",
        f"[Save|Store|List|File] {_QUOTED} under {{field}}",
        f"[Type|Enter|Write] the [words|text|characters] {_VALUE} [in|into] {INTO}",
        f"[Give|Tell|Send] [them|the insurer|the office] my {{field}}[, it's|:| -] {_VALUE}",
        f"[Turn|Convert] [the|my] {{field}} into {_VALUE}",
        f"[Choose|Pick] {{field}} and [give|assign] it the [text|value|content] {_VALUE}",
        f"[Find|Locate|Look for] {INTO} and [fill in|type|write|put in] {_VALUE}",
    ),
    remarks=(
        f"{{field}}: {_VALUE}",
        f"{{field}} [=|-|->] {_VALUE}",
        f"{{field}} {_QUOTED}",
        f"[The|My|] {{field}} [is|should be|must be|has to be|ought to be|will be] {_VALUE}",
        f"{_VALUE} [is|was|would be] [the|my|our] {{field}}",
        f"{_VALUE} [goes|belongs|should go] [in|into] {INTO}",
        f"[For|At|In] {INTO}, [enter|type|write|put] {_VALUE}",
        f"[On|In] the {FORM}, [the|my|] {{field}} [is|should be|must be] {_VALUE}",
        f"[On|In] the {FORM}, [set|change|update] [the|my|] {{field}} to {_VALUE}",
        f"I [need|want|have] to [enter|put|type|write] {_VALUE} [in|into] {INTO}",
        f"I'd like {_VALUE} [as|for] [the|my|] {{field}}",
        f"[We|They|The insurer] [want|need|expect] {_VALUE} [in|for|as] [the|] {{field}}",
        f"[My|The] {_SPEAK} [says|gives|states] {_VALUE} [as|for] [the|my|] {{field}}",
        f"{_VALUE} [for|as|in] [the|my|] {{field}}[, please|]",
        f"[New|Correct|Right|Updated] {{field}}: {_VALUE}",
        f"The {{field}} {INPUT} [gets|takes|needs|wants] {_VALUE}",
        f"[The|My] {{field}} has changed to {_VALUE}",
        f"[Where it says|Next to|After] {{field}}, [type|enter|write|put] {_VALUE}",
        f"[What|The text] [I want|to put|that goes] in {INTO} is {_VALUE}",
        f"[Value|Text|Entry|Content] for {INTO}: {_VALUE}",
        f"[The|My] {{field}} is [wrong|missing|blank|empty]: [enter|type|put] {_VALUE}",
        f"If [it asks|they ask] for [the|my|] {{field}}, [give|enter|type] {_VALUE}",
        f"{_QUOTED}, that's [the|my] {{field}}",
        f"{_QUOTED} {{field}}",
        f"[Can|Could] [the|my] {{field}} be [set|changed] to {_VALUE}",
        f"I was [given|told|sent] {_VALUE} [as|for] [the|my|] {{field}}",
        # Read off something
        f"[My|The] {_SHEET} [has|shows|lists|reads] {_VALUE} [as|for] [the|my|] {{field}}",
        f"According to [my|the] {_SHEET}, [the|my] {{field}} is {_VALUE}",
        f"I'm [reading|copying] [the|my] {{field}} [off|from] [my|the] {_SHEET}: {_VALUE}",
        f"[On|In] my {_SHEET} [the|my] {{field}} [is|reads] {_VALUE}",
        f"[The|My] {{field}}, as [printed|written|you can see] on the {_SHEET}, is {_VALUE}",
        f"I [looked up|checked] [the|my] {{field}}[, it's|: it is|. It's] {_VALUE}",
        # Two sentences
        f"[Here is|Here's|This is] [the|my|our] {{field}}: {_VALUE}",
        f"[Here is|Here's] what [goes|belongs|to put|I want] in {INTO}: {_VALUE}",
        f"I [have|found|know|got|remember] [the|my] {{field}}[ now|]. [It's|It is] {_VALUE}",
        f"[The|My] {{field}} [was left out|needs filling in]. [Enter|Put|Make it] {_VALUE}",
        f"[Click|Go to|Open|Find] {INTO}. [Then|Now|There,] [type|enter|write] {_VALUE}",
        f"{_QUOTED}. [That's|That is|This is] [the|my|our] {{field}}",
        f"{_QUOTED}. [Put|Enter|Type|Write] [it|this|that] [in|into] {INTO}",
        f"[They want|You need|Missing] [the|my] {{field}}? [It's|Take|Enter] {_VALUE}",
        # Questions
        f"[Could|Can|May] I have {_VALUE} [in|for|as] [the|my] {{field}}?",
        f"Would you mind [entering|typing|putting|writing] {_VALUE} [in|into] {INTO}?",
        f"[How about|What about|Why not] {_VALUE} [for|as] [the|my] {{field}}?",
        f"[Could|Can] [the|my] {{field}} [be|read|say] {_QUOTED}[, please|]?",
        f"Is it possible to [set|change|switch] [the|my] {{field}} to {_QUOTED}?",
        # Wishes
        f"I [want|would like|wish|need] [the|my] {{field}} to [be|read|say|become] {_VALUE}",
        f"I'd [rather|sooner] have {_VALUE} [in|for|as] [the|my] {{field}}",
        f"I was [after|hoping for|thinking of] {_VALUE} [as|for] [the|my] {{field}}",
        f"I'm [supposed|meant|trying|going] to [enter|put|give|type] {_VALUE} [for|as] {{field}}",
        f"You [can|may|must] [put|enter|use|write] {_VALUE} [as|for] [the|my] {{field}}",
        f"[Pls|Plz|Kindly|Just|Simply] [put|enter|add|write] {_VALUE} [in|into] {INTO}",
        f"[Gotta|Gonna|Wanna] [put|enter|write] {_VALUE} [in|into] {INTO}",
        # Reasons
        f"[Since|Because] [I moved|it was wrong], [the|my] {{field}} is [now|] {_VALUE}",
        f"To [finish|go on|complete the form], [enter|put|type] {_VALUE} [as|for] {{field}}",
        f"I [forgot|never gave|didn't enter] [the|my] {{field}}[, it's|, which is|:] {_VALUE}",
        f"[I|We|They] [wrote|typed|entered] the wrong {{field}}[, it's|. It should be] {_VALUE}",
        f"[My|The] old {{field}} [is gone|expired|is wrong], [the new one is|now it's] {_VALUE}",
        f"[Don't leave|Never leave] {INTO} [empty|blank][, put|: enter|, type] {_VALUE}",
        f"From now on [the|my] {{field}} is {_VALUE}",
        # Relative clauses
        f"The {INPUT} [that asks for|which is for|that wants] [the|my|] {{field}} gets {_VALUE}",
        f"The [text|entry|answer] [that goes|which belongs|I want] in {INTO} is {_VALUE}",
        f"{_VALUE} is what [goes|belongs|I want|they expect|has to be] in {INTO}",
        f"{_VALUE} is what [the|my] {{field}} should [read|be|say]",
        f"What the {{field}} {INPUT} [lacks|needs|should say|is waiting for] is {_VALUE}",
        # Short ones
        f"{_VALUE} [in|into] {INTO}",
        f"{{field}} [=>|==|--] {_VALUE}",
        f"{_QUOTED} [->|=>] {{field}}",
        f"{{field}}? {_VALUE}",
        f"{{field}}: [it's|put|that's|enter|type] {_VALUE}",
        f"{{field}}, [that would be|that's|namely|it's] {_VALUE}",
        f"[Under|Beside|Behind] {{field}} [goes|comes|I want|write] {_VALUE}",
        f"{{field}} [becomes|changes to|was changed to|equals] {_VALUE}",
        f"It's {_VALUE} [for|in|as] [the|my] {{field}}",
    ),
)
