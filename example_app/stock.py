"""What the shop sells."""

from __future__ import annotations

from pymongo import UpdateOne

from .models import Product

COLUMNS = ("slug", "name", "price", "art", "glaze", "summary", "story")
PRODUCTS = [
    (
        "morning-mug",
        "Morning mug",
        1800,
        "mug",
        "sage",
        "Holds 350 ml and most of a bad start.",
        "Thrown on the wheel, with a handle that fits three fingers. The glaze pools at the foot, so no two are alike.",
    ),
    (
        "two-cup-teapot",
        "Two-cup teapot",
        5600,
        "teapot",
        "rust",
        "Pours without a drip, down to the last cup.",
        "The spout is cut by hand and tested with water before it is fired. Comes with a strainer of the same clay.",
    ),
    (
        "ramen-bowl",
        "Ramen bowl",
        2800,
        "bowl",
        "ocean",
        "Deep enough for seconds.",
        "A wide bowl on a narrow foot: it stays hot in the middle and cool where you hold it.",
    ),
    (
        "bottle-vase",
        "Bottle vase",
        4200,
        "vase",
        "plum",
        "For one tall branch, or nothing at all.",
        "Made in two parts that are joined while wet. The seam is left to be found with a fingertip.",
    ),
    (
        "dinner-plate",
        "Dinner plate",
        2400,
        "plate",
        "sand",
        "27 cm, with a rim that keeps the peas in.",
        "Heavy enough to feel like dinner, flat enough to stack by the dozen. Dishwasher-proof.",
    ),
    (
        "espresso-cup",
        "Espresso cup",
        1200,
        "cup",
        "rust",
        "Two sips, well kept warm.",
        "Thick walls, warmed in a minute on top of the machine. The saucer doubles as a lid.",
    ),
    (
        "window-planter",
        "Window planter",
        3200,
        "planter",
        "sage",
        "Basil not included, but recommended.",
        "Unglazed inside so that the soil can breathe, glazed outside so that the sill stays dry.",
    ),
    (
        "milk-pitcher",
        "Milk pitcher",
        2600,
        "pitcher",
        "ocean",
        "For milk, cream, gravy or tulips.",
        "Half a litre, with a lip that cuts the pour. Looks best a little too full.",
    ),
    (
        "lidded-jar",
        "Lidded jar",
        3400,
        "jar",
        "sand",
        "Keeps biscuits crisp and secrets in.",
        "The lid is ground to the rim by hand, each to its own jar. Please do not swap them.",
    ),
    (
        "bud-vase",
        "Bud vase",
        1900,
        "bud",
        "plum",
        "Small, for the first flower of the year.",
        "Fits between two books. Weighted at the foot, so the cat may try.",
    ),
    (
        "candle-holder",
        "Candle holder",
        1600,
        "candle",
        "ocean",
        "Catches the wax, carries the light.",
        "A saucer with a thumb ring, as it was done before switches.",
    ),
    (
        "four-coasters",
        "Four coasters",
        2000,
        "tiles",
        "rust",
        "Off-cuts of larger things.",
        "Every tile is cut from a slab that became something else. Cork underneath.",
    ),
]


def stock_shelves() -> list[Product]:
    """Put every product on the shelf, changing those that are there already; return them in order."""
    rows = [{**dict(zip(COLUMNS, row, strict=True)), "shelf": place} for place, row in enumerate(PRODUCTS)]

    Product.ensure_indexes()
    Product._get_collection().bulk_write([UpdateOne({"slug": row["slug"]}, {"$set": row}, upsert=True) for row in rows])

    return list(Product.objects)
