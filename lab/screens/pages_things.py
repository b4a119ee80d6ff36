"""Draws pages that show things: goods, figures, pictures, switches."""

from __future__ import annotations

from .canvas import Colour, mix
from .page import Page, picture
from .style import ButtonLook, draw_button
from .words import FILLER, title


def draw_shop(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    if rng.random() < 0.4:
        page.headline(rng.choice(("Cart", "Your basket", "New arrivals", "Shop", "Best sellers")))
    side = style.px(rng.uniform(90, 170))
    columns = max(1, int(page.width / (side + 10)))
    label = rng.choice(("Add", "Buy", "Add to cart", "View"))
    height = side * 0.55 + style.px(64)
    for index in range(rng.randint(3, 9)):
        left = page.left + index % columns * (side + style.px(8))
        top = page.y + index // columns * (height + style.px(8))
        if top + height > page.bottom:
            return
        page.panel((left, top, left + side, top + height))
        picture(page, (left + 5, top + 5, left + side - 5, top + side * 0.55))
        price = f"${rng.randint(5, 99)}.{rng.choice(('99', '49', '00'))}"
        canvas.text(left + 6, top + side * 0.58, price, page.face, style.ink)
        look = ButtonLook(style.button, 12, 8, 24)
        draw_button(canvas, style, look, left + 6, top + height - style.px(30), label)


def draw_product_list(page: Page) -> None:
    """Rows with a button each: close to a provider list, but of things."""
    rng, style, canvas = page.rng, page.style, page.canvas
    page.headline(rng.choice(("Orders", "Products", "Downloads", "Flights", "Hotels", "Tickets")))
    height = style.px(rng.uniform(30, 46))
    look = ButtonLook.draw(rng, style)
    label = rng.choice(("Buy", "Open", "Edit", "Add", "Track", "Details", "Select"))
    for _ in range(rng.randint(3, 9)):
        if not page.fits(height):
            return
        middle = page.y + height / 2
        canvas.horizontal(page.left, page.right, page.y + height, style.line)
        text = f"{title(rng)} ${rng.randint(9, 900)}"
        canvas.text(page.left + 6, middle, text, page.face, style.ink, "lm")
        x = page.right - look.width(style, label) - 6
        draw_button(canvas, style, look, x, middle - style.px(look.height) / 2, label)
        page.y += height


def draw_chart(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    if rng.random() < 0.5:
        page.headline(rng.choice(("Sales", "Dashboard", "Traffic", "Revenue", "Energy use")))
    height = min(page.bottom - page.y - 20, style.px(rng.uniform(120, 260)))
    base = page.y + height
    count = rng.randint(4, 14)
    step = page.width * rng.uniform(0.5, 1) / count
    values = [rng.uniform(0.2, 1) * height for _ in range(count)]
    if rng.random() < 0.6:
        for index, value in enumerate(values):
            left = page.left + index * step
            canvas.rectangle((left, base - value, left + step * 0.7, base), fill=style.accent)
    else:
        points = [(page.left + i * step, base - value) for i, value in enumerate(values)]
        canvas.line(points, style.accent, 2)
    canvas.horizontal(page.left, page.right, base, style.line)
    page.y = base + 12


def draw_dashboard(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    count = rng.randint(2, 4)
    width = page.width / count
    height = style.px(rng.uniform(56, 80))
    for index in range(count):
        left = page.left + index * width
        page.panel((left, page.y, left + width - 8, page.y + height))
        number = f"{rng.randint(1, 99)},{rng.randint(0, 999):03d}"
        canvas.text(left + 8, page.y + 6, title(rng)[:14], style.face(11), style.muted)
        canvas.text(left + 8, page.y + height * 0.4, number, style.face(18, bold=True), style.ink)
    page.y += height + 14
    draw_chart(page)


def draw_files(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    page.headline(rng.choice(("Documents", "Downloads", "My files", "Shared with me")))
    height = page.face.height * rng.uniform(1.5, 2.2)
    for _ in range(rng.randint(4, 14)):
        if not page.fits(height):
            return
        middle = page.y + height / 2
        size = style.px(6)
        fill = mix(style.panel, style.accent, 0.5)
        canvas.rectangle((page.left, middle - size, page.left + 2 * size, middle + size), fill)
        ending = rng.choice(("pdf", "docx", "png", "zip", "txt", "xlsx", "mp3"))
        name = f"{rng.choice(FILLER)}_{rng.choice(FILLER)}.{ending}"
        canvas.text(page.left + 3 * size, middle, name, page.face, style.ink, "lm")
        size_text = f"{rng.randint(1, 999)} {rng.choice(('KB', 'MB'))}"
        canvas.text(page.right, middle, size_text, page.face, style.muted, "rm")
        page.y += height


def draw_settings(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    page.headline(rng.choice(("Settings", "Preferences", "Privacy", "Notifications")))
    height = style.px(rng.uniform(28, 42))
    for _ in range(rng.randint(4, 10)):
        if not page.fits(height):
            return
        middle = page.y + height / 2
        label = title(rng)
        canvas.text(page.left, middle, label, page.face, style.ink, "lm")
        on = rng.random() < 0.5
        half = style.px(7)
        box = (page.right - 4 * half, middle - half, page.right, middle + half)
        canvas.rectangle(box, style.accent if on else style.faint, radius=half)
        knob = page.right - half if on else page.right - 3 * half
        canvas.disc(knob, middle, half - 2, (255, 255, 255))
        canvas.element("switch", box, label)
        page.y += height


def draw_player(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    height = min(style.px(rng.uniform(150, 300)), page.bottom - page.y - 60)
    picture(page, (page.left, page.y, page.right, page.y + height))
    page.y += height + 10
    done = page.left + rng.uniform(0.1, 0.9) * page.width
    canvas.rectangle((page.left, page.y, page.right, page.y + 4), fill=style.faint)
    canvas.rectangle((page.left, page.y, done, page.y + 4), fill=style.accent)
    page.y += 22
    for x in (page.left + 12, page.left + 44, page.left + 76):
        canvas.triangle(x, page.y, style.px(7), rng.choice(("right", "left")), style.ink)
    time = f"{rng.randint(0, 9)}:{rng.randint(10, 59)}"
    canvas.text(page.right, page.y, time, page.face, style.muted, "rm")
    page.y += 20
    canvas.text(page.left, page.y, title(rng), page.face, style.ink)


def draw_map(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    box = (page.left, page.y, page.right, page.bottom)
    ground = mix((225, 235, 220), style.ground, 0.3)
    canvas.rectangle(box, fill=ground)
    for _ in range(rng.randint(5, 12)):
        start = (rng.uniform(box[0], box[2]), box[1])
        end = (rng.uniform(box[0], box[2]), box[3])
        if rng.random() < 0.5:
            start = (box[0], rng.uniform(box[1], box[3]))
            end = (box[2], rng.uniform(box[1], box[3]))
        canvas.line([start, end], rng.choice(((255, 255, 255), (250, 220, 140))), rng.randint(2, 7))
    for _ in range(rng.randint(1, 5)):
        x, y = rng.uniform(box[0] + 20, box[2] - 20), rng.uniform(box[1] + 20, box[3] - 20)
        canvas.disc(x, y, 6, (220, 60, 50))
        canvas.text(x + 9, y, title(rng), style.face(11), (50, 50, 50), "lm")
    search = (box[0] + 10, box[1] + 10, box[0] + 10 + style.px(200), box[1] + 10 + style.px(30))
    page.field(search, "Search the map")
    canvas.text(search[0] + 8, search[1] + 6, "Search the map", page.face, style.muted)


def draw_keypad(page: Page) -> None:
    """A calculator or a dial: a grid of numbers that is no calendar."""
    rng, style, canvas = page.rng, page.style, page.canvas
    side = style.px(rng.uniform(34, 60))
    page.panel((page.left, page.y, page.left + 4 * side, page.y + side * 0.9))
    shown = str(rng.randint(0, 99999))
    x, middle = page.left + 4 * side - 8, page.y + side * 0.45
    canvas.text(x, middle, shown, style.face(20), style.ink, "rm")
    page.y += side
    rows = rng.choice((("789/", "456*", "123-", "0.=+"), ("123", "456", "789", "*0#")))
    for row in rows:
        for index, key in enumerate(row):
            left = page.left + index * side
            box = (left + 2, page.y + 2, left + side - 2, page.y + side - 2)
            canvas.rectangle(box, style.tint, style.line, min(style.corner, side / 2))
            canvas.text(left + side / 2, page.y + side / 2, key, style.face(16), style.ink, "mm")
            canvas.element("button", box, key)
        page.y += side


def draw_gallery(page: Page) -> None:
    rng, style = page.rng, page.style
    side = style.px(rng.uniform(60, 150))
    columns = max(1, int(page.width / side))
    for index in range(rng.randint(4, 24)):
        left = page.left + index % columns * side
        top = page.y + index // columns * side
        if top + side > page.bottom:
            return
        picture(page, (left, top, left + side - 6, top + side - 6))


def draw_weather(page: Page) -> None:
    rng, style, canvas = page.rng, page.style, page.canvas
    page.headline(rng.choice(("Weather", "Forecast", "Today's weather")))
    canvas.text(page.left, page.y, f"{rng.randint(-9, 35)}°", style.face(38), style.ink)
    page.y += style.px(60)
    count = rng.randint(4, 7)
    width = min(style.px(80), page.width / count)
    for index in range(count):
        x = page.left + (index + 0.5) * width
        day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[index]
        canvas.text(x, page.y, day, page.face, style.muted, "mt")
        sky: Colour = rng.choice(((250, 200, 60), (150, 150, 150)))
        canvas.disc(x, page.y + style.px(36), style.px(10), sky)
        degrees = f"{rng.randint(-9, 35)}°"
        canvas.text(x, page.y + style.px(54), degrees, page.face, style.ink, "mt")
