"""Draws pages that are mostly text: to read, to write, to sign in."""

from __future__ import annotations

from .canvas import readable_on
from .page import Page, line_of_text, page_button, picture
from .words import FILLER, person, sentence, title


def draw_login(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    width = style.px(rng.uniform(220, 340))
    page.left += max(0.0, rng.uniform(0, 0.7) * (page.width - width))
    page.right = min(page.right, page.left + width)
    page.headline(rng.choice(("Sign in", "Log in", "Welcome back", "Create account", "Sign up")))
    labels = ["Email", "Password"]
    if rng.random() < 0.4:
        labels = rng.sample(("Full name", "User name", "Country", "Phone"), 2) + labels
    above = rng.random() < 0.5
    height = style.px(rng.uniform(26, 38))
    for label in labels:
        if above:
            canvas.text(page.left, page.y, label, page.face, style.ink)
            page.y += page.face.height * 1.15
        box = (page.left, page.y, page.right, page.y + height)
        page.field(box, label)
        if not above:
            canvas.text(page.left + 8, page.y + height / 2, label, page.face, style.muted, "lm")
        page.y += height + style.px(8)
    box = page_button(page, page.left, page.y, rng.choice(("Sign in", "Log in", "Continue")))
    forgot = style.face(11.5)
    canvas.text(box[2] + 10, (box[1] + box[3]) / 2, "Forgot password?", forgot, style.link, "lm")


def draw_article(page: Page) -> None:
    rng, style = page.rng, page.style
    page.headline(sentence(rng, rng.randint(3, 6)), rng.uniform(18, 28))
    if rng.random() < 0.3:
        height = style.px(rng.uniform(60, 150))
        picture(page, (page.left, page.y, page.right, page.y + height))
        page.y += height + 10
    while page.fits(page.face.height * 2) and rng.random() < 0.85:
        page.paragraph(page.left, page.right, rng.randint(2, 7), page.face, style.ink)
        page.y += page.face.height * 0.7


def draw_chat(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    bubbles = rng.random() < 0.6
    field_top = page.bottom - style.px(40)
    for _ in range(rng.randint(3, 9)):
        lines = rng.randint(1, 3)
        height = lines * page.face.height * 1.2 + 10
        if page.y + height > field_top:
            break
        width = rng.uniform(0.3, 0.65) * page.width
        mine = rng.random() < 0.5
        left = page.right - width if mine and bubbles else page.left
        colour = style.ink
        if bubbles:
            fill = style.accent if mine else style.tint
            colour = readable_on(fill)
            canvas.rectangle((left, page.y, left + width, page.y + height), fill, radius=10)
        top = page.y
        page.y += 5
        page.paragraph(left + 8, left + width - 8, lines, page.face, colour)
        page.y = top + height + style.px(8)
    box = (page.left, field_top, page.right - style.px(80), field_top + style.px(28))
    page.field(box, "Message")
    canvas.text(box[0] + 8, (box[1] + box[3]) / 2, "Message", page.face, style.muted, "lm")
    page_button(page, box[2] + 8, field_top, "Send")


def draw_mail(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    height = page.face.height * rng.uniform(1.7, 2.6)
    split = page.left + page.width * rng.uniform(0.22, 0.32)
    for index in range(rng.randint(5, 14)):
        if not page.fits(height):
            return
        middle = page.y + height / 2
        face = style.face(style.text_size, bold=index < 3)
        sender = face.clipped(" ".join(person(rng)), split - page.left - 8)
        canvas.text(page.left + 4, middle, sender, face, style.ink, "lm")
        subject = line_of_text(rng, page.face, page.right - split - 60)
        canvas.text(split, middle, subject, page.face, style.muted, "lm")
        clock = f"{rng.randint(1, 12)}:{rng.randint(10, 59)}"
        canvas.text(page.right, middle, clock, page.face, style.muted, "rm")
        page.y += height
        canvas.horizontal(page.left, page.right, page.y, style.faint)


def draw_search(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    box = (page.left, page.y, page.left + page.width * 0.7, page.y + style.px(32))
    page.field(box, "")
    canvas.text(box[0] + 10, box[1] + 7, title(rng), page.face, style.ink)
    page.y = box[3] + style.px(16)
    for _ in range(rng.randint(2, 6)):
        if not page.fits(page.face.height * 4):
            return
        face = style.face(16)
        text = face.clipped(sentence(rng, rng.randint(3, 6)), page.width)
        canvas.text(page.left, page.y, text, face, style.link)
        page.y += face.height * 1.2
        page.paragraph(page.left, page.right, 2, page.face, style.muted)
        page.y += style.px(12)


def draw_code(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    ground = rng.choice(((30, 30, 30), (40, 44, 52), style.tint))
    box = (page.left, page.y, page.right, page.bottom)
    canvas.rectangle(box, fill=ground)
    ink = readable_on(ground)
    page.y += 8
    depth = 0
    while page.fits(page.face.height) and rng.random() < 0.95:
        depth = max(0, min(4, depth + rng.choice((-1, 0, 0, 1))))
        words = [rng.choice(FILLER) for _ in range(rng.randint(1, 4))]
        text = f"{words[0]} = {'.'.join(words)}({rng.randint(0, 99)})"
        x = page.left + 10 + depth * style.px(18)
        canvas.text(x, page.y, page.face.clipped(text, page.right - x), page.face, ink)
        page.y += page.face.height * 1.15


def draw_poll(page: Page) -> None:
    """Options that could be counted, though no adapter is for them."""
    rng, style, canvas = page.rng, page.style, page.canvas
    page.headline(sentence(rng, 5) + "?", 18)
    height = page.face.height * rng.uniform(1.6, 2.4)
    for _ in range(rng.randint(3, 6)):
        middle = page.y + height / 2
        radius = style.px(6)
        box = (page.left, middle - radius, page.left + 2 * radius, middle + radius)
        canvas.rectangle(box, outline=style.muted, radius=radius)
        label = title(rng)
        canvas.text(page.left + 3 * radius, middle, label, page.face, style.ink, "lm")
        canvas.element("option", box, label)
        page.y += height
    page_button(page, page.left, page.y + 6, rng.choice(("Vote", "Send", "Next question")))
