"""The words the demo's shop is made of: categories, and what each calls its goods."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One department. Titles read "<brand> <quality> <thing>"; the i-th brand leans to the i-th tags."""

    name: str
    brands: tuple[str, ...]
    qualities: tuple[str, ...]
    things: tuple[str, ...]
    tags: tuple[str, ...]
    price: float
    """The median price; brands lie around it."""


def _category(name: str, price: float, brands: str, qualities: str, things: str, tags: str) -> Category:
    return Category(name, _words(brands), _words(qualities), _words(things), _words(tags), price)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


CATEGORIES = (
    _category(
        "Hiking",
        90.0,
        "Nordfell, Karst & Co, Trailwise, Alpenweg",
        "Waterproof, Lightweight, Insulated, Folding, All-Weather, Breathable, Reinforced, Compact",
        "Hiking Boots, Trekking Poles, Rain Jacket, Day Backpack, Sleeping Bag, Trail Map Case, Camping Lantern, "
        "Two-Person Tent, Wool Hiking Socks, Water Filter",
        "mountains, camping, waterproof, ultralight, winter, weekend, trail, outdoors",
    ),
    _category(
        "Coffee",
        32.0,
        "Bean Harbor, Café Lumière, Monsoon Roasters, Perka",
        "Dark Roast, Single-Origin, Hand-Ground, Stainless Steel, Slow-Drip, Organic, Cold-Brew, Copper",
        "Coffee Beans, Espresso Maker, Burr Grinder, French Press, Milk Frother, Pour-Over Kettle, Travel Mug, "
        "Paper Filters, Espresso Cups, Coffee Scale",
        "espresso, filter coffee, fair trade, barista, breakfast, beans, brewing, decaf",
    ),
    _category(
        "Photography",
        240.0,
        "Optara, Lumenta, Silberlicht, Framewell",
        "Wide-Angle, Full-Frame, Carbon Fibre, Vintage, Weather-Sealed, Compact, Low-Light, Manual-Focus",
        "Camera Lens, Camera Tripod, Mirrorless Camera, Camera Bag, Studio Flash, Lens Filter, Film Roll, "
        "Photo Printer, Camera Strap, Memory Card Case",
        "portrait, landscape, film, studio, travel photography, night sky, macro, video",
    ),
    _category(
        "Gardening",
        28.0,
        "Greenhollow, Petal & Spade, Fernbank, Rootstock",
        "Heirloom, Self-Watering, Long-Handled, Organic, Raised, Frost-Hardy, Terracotta, Climbing",
        "Tomato Seeds, Garden Trowel, Plant Pots, Pruning Shears, Watering Can, Rose Bush, Compost Bin, "
        "Herb Garden Kit, Garden Hose, Wildflower Seeds",
        "vegetables, flowers, herbs, balcony, soil, spring, tools, pollinators",
    ),
    _category(
        "Board Games",
        38.0,
        "Meeple House, Dicefall, Kartenhaus, Oak & Token",
        "Cooperative, Two-Player, Legendary, Medieval, Galactic, Pocket-Sized, Haunted, Award-Winning",
        "Strategy Board Game, Dice Game, Card Game, Trading Game, Mystery Game, Word Game, Wooden Puzzle, "
        "Dungeon Adventure Game, Trivia Game, Chess Set",
        "strategy, party, family night, solo play, fantasy, puzzle, cards, dice",
    ),
    _category(
        "Baking",
        22.0,
        "Crumb & Crust, Mühlenbach, Sugarloaf, Whiskwell",
        "Non-Stick, Sourdough, Silicone, Whole-Grain, Glass, Gluten-Free, Deep, Ceramic",
        "Bread Loaf Pan, Cake Tin, Bread Flour, Mixing Bowl, Rolling Pin, Cookie Cutters, Piping Bag Set, "
        "Bread Proofing Basket, Muffin Tray, Baking Chocolate",
        "bread, cakes, cookies, sourdough, pastry, chocolate, gluten free, decorating",
    ),
    _category(
        "Cycling",
        75.0,
        "Veloria, Spoke Theory, Gravelle, Pedalhaus",
        "Tubeless, Reflective, Aluminium, Padded, Puncture-Proof, Aerodynamic, Quick-Release, Hydraulic",
        "Bike Helmet, Road Bike Tyre, Cycling Jersey, Bike Pump, Bike Light, Saddle, Bike Lock, Pannier Bag, "
        "Cycling Gloves, Chain Lubricant",
        "road bike, gravel, commuting, mountain bike, safety, touring, racing, repair",
    ),
    _category(
        "Guitars",
        160.0,
        "Fretwork, Rosewood Lane, Luthiér, Ampersound",
        "Acoustic, Semi-Hollow, Twelve-String, Mahogany, Overdriven, Nickel-Wound, Left-Handed, Vintage",
        "Electric Guitar, Guitar Strings, Guitar Amplifier, Guitar Strap, Distortion Pedal, Guitar Tuner, "
        "Guitar Picks, Guitar Stand, Bass Guitar, Ukulele",
        "rock, jazz, folk, blues, beginner, recording, pedals, strings",
    ),
    _category(
        "Baby Care",
        26.0,
        "Little Acorn, Mimosa Baby, Cuddlewick, Tiny Harbour",
        "Soft Cotton, Hypoallergenic, Foldable, Bamboo, Teething, Washable, Musical, Newborn",
        "Baby Blanket, Baby Bottle, Nappy Bag, Pushchair, Baby Monitor, Rattle Toy, Baby Bodysuit, Bath Towel, "
        "Night Light, High Chair",
        "newborn, sleep, feeding, bath time, toys, on the go, nursery, organic cotton",
    ),
    _category(
        "Yoga",
        34.0,
        "Lotus Yard, Stillpoint, Asana Works, Breathe Easy",
        "Non-Slip, Cork, Extra-Thick, Recycled, High-Waisted, Weighted, Natural Rubber, Seamless",
        "Yoga Mat, Yoga Block, Yoga Leggings, Meditation Cushion, Resistance Band, Yoga Strap, Foam Roller, "
        "Massage Ball, Yoga Towel, Sports Bra",
        "meditation, stretching, pilates, studio, recovery, balance, breathing, home workout",
    ),
    _category(
        "Home Office",
        110.0,
        "Deskmark, Studio Werk, Papierre, Quietkey",
        "Ergonomic, Height-Adjustable, Wireless, Noise-Cancelling, Oak, Dimmable, Magnetic, Cable-Free",
        "Office Chair, Standing Desk, Mechanical Keyboard, Desk Lamp, Monitor Arm, Headset, Notebook, "
        "Filing Cabinet, Webcam, Fountain Pen",
        "desk, remote work, typing, lighting, stationery, video calls, posture, storage",
    ),
    _category(
        "Comics",
        18.0,
        "Inkwell Press, Panel Nine, Mangaka Books, Golden Gutter",
        "Hardcover, Illustrated, Complete, Limited Edition, Classic, Post-Apocalyptic, Superhero, Dystopian",
        "Graphic Novel, Manga Volume, Comic Anthology, Comic Box Set, Art Book, Comic Strip Collection, "
        "Detective Comic, Space Opera Comic, Fantasy Comic, Drawing Guide",
        "manga, superheroes, science fiction, indie, collector, drawing, horror, humour",
    ),
)

COMMON_TAGS = ("bestseller", "gift", "sale", "new")
AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
GENDERS = ("female", "male", "other")
REGIONS = ("north", "south", "east", "west")
