"""The vocabulary of the world. Order matters: the generators draw by index, so append, never insert."""

from __future__ import annotations

GIRLS = (
    "Mara Elsin Odette Runa Isolde Petra Linnea Tamsin Yara Brielle Cora Delphine Freya Greta Hester "
    "Ingrid Juno Katya Lavinia Mirela Nadia Orla Philippa Rosalind Sabine Thea Ursula Vesna Wilma Zelda"
).split()
BOYS = (
    "Tobin Anselm Bruno Cedric Dorian Emeric Felix Gideon Hugo Ivo Jasper Kaspar Leander Magnus Nestor "
    "Oswin Pascal Quentin Rufus Silas Tiber Ulric Victor Wendel Xaver Yorick Zeno Alaric Bertil Corin"
).split()
SURNAMES = (
    "Ashgrove Barrow Calder Dunmore Eastlake Fennick Garrow Hollis Inkwell Jarrow Kestrel Lorne Marlow "
    "Nightvale Oakes Penrose Quill Rowan Sorrel Thorne Underhill Vance Wexley Yarrow Zephyr Aldercott "
    "Birch Crowley Drake Elmhurst Foxglove Greaves Hawthorn Ivory Juniper Kettle Larkin Moss Norwood "
    "Orchard Pike Quarry Reed Saltmarsh Tanner Umber Vale Whitlock Yew Brook"
).split()

# A town, the older name by which some still call it, its kind, its trade.
TOWNS = [
    ("Velmar", "Port Vel", "harbour town", "salt"),
    ("Oldmere", "Meresby", "lake town", "paper"),
    ("Brackwater", "Brack", "fishing town", "nets"),
    ("Stonehaven", "the Haven", "hill town", "slate"),
    ("Fernholt", "Fernwood", "forest town", "timber"),
    ("Kingsford", "Ford", "river town", "boats"),
    ("Duskvale", "Dusk", "valley town", "wool"),
    ("Highcliff", "the Cliff", "coast town", "rope"),
    ("Amberly", "Ambertown", "market town", "honey"),
    ("Norrin", "Norrinburg", "mountain town", "copper"),
    ("Willowby", "Willow End", "river town", "baskets"),
    ("Tarnside", "Tarn", "lake town", "glass"),
    ("Greywick", "Old Wick", "harbour town", "tar"),
    ("Larkspur", "Larkfield", "garden town", "flowers"),
    ("Ironbridge", "the Bridge", "mill town", "nails"),
    ("Sunfell", "Fell", "mountain town", "sheep"),
    ("Marrow", "Marrowby", "plain town", "wheat"),
    ("Eldham", "Eld", "abbey town", "books"),
    ("Coldwell", "the Well", "spring town", "beer"),
    ("Pinecrest", "Pine", "forest town", "resin"),
    ("Sandhurst", "Sands", "coast town", "pearls"),
    ("Hollowby", "the Hollow", "valley town", "apples"),
    ("Thistledown", "Thistle", "plain town", "linen"),
    ("Ravenport", "Raven", "harbour town", "coal"),
    ("Maplewick", "Maple", "garden town", "syrup"),
    ("Quillon", "Old Quill", "abbey town", "ink"),
    ("Saltmouth", "the Mouth", "fishing town", "herring"),
    ("Otterbeck", "Beck", "river town", "barrels"),
    ("Windmere", "Winds", "plain town", "sails"),
    ("Copperhill", "Copper", "hill town", "kettles"),
    ("Briarton", "Briar", "market town", "roses"),
    ("Lanternby", "Lantern End", "mill town", "lamps"),
    ("Frostholm", "Frost", "mountain town", "furs"),
    ("Goldacre", "the Acre", "valley town", "barley"),
    ("Pebblestrand", "the Strand", "coast town", "shells"),
    ("Elmstead", "Elms", "forest town", "charcoal"),
]
# A profession, another word for it, and what people of that trade do.
PROFESSIONS = [
    ("doctor", "physician", "heals the sick"),
    ("teacher", "schoolteacher", "runs a small school"),
    ("baker", "bread maker", "bakes bread before dawn"),
    ("sailor", "seafarer", "sails to far islands"),
    ("painter", "artist", "paints portraits"),
    ("blacksmith", "smith", "forges iron tools"),
    ("gardener", "plant keeper", "looks after the rose beds"),
    ("lawyer", "attorney", "argues before the judge"),
    ("tailor", "dressmaker", "sews coats and gowns"),
    ("carpenter", "woodworker", "builds tables and chairs"),
    ("astronomer", "stargazer", "watches the stars at night"),
    ("librarian", "book keeper", "looks after old books"),
    ("clockmaker", "watchmaker", "repairs clocks"),
    ("miller", "flour maker", "grinds grain at the mill"),
    ("fisher", "fisherman", "brings in the morning catch"),
    ("shepherd", "sheep herder", "keeps a flock on the hills"),
    ("potter", "clay worker", "shapes bowls of clay"),
    ("printer", "typesetter", "prints the weekly paper"),
    ("beekeeper", "apiarist", "keeps forty hives"),
    ("judge", "magistrate", "settles quarrels in court"),
]
INSTRUMENTS = [
    ("violin", "fiddle"),
    ("flute", "recorder"),
    ("harp", "concert harp"),
    ("drum", "drums"),
    ("trumpet", "horn"),
    ("guitar", "six-string guitar"),
    ("piano", "pianoforte"),
    ("cello", "violoncello"),
    ("lute", "theorbo"),
    ("organ", "pipe organ"),
    ("clarinet", "chalumeau"),
    ("bagpipe", "bagpipes"),
    ("banjo", "five-string banjo"),
    ("accordion", "squeezebox"),
    ("oboe", "hautbois"),
    ("zither", "table zither"),
]
PETS = [
    ("cat", "tomcat"),
    ("dog", "hound"),
    ("parrot", "talking parrot"),
    ("rabbit", "bunny"),
    ("goat", "billy goat"),
    ("tortoise", "turtle"),
    ("owl", "barn owl"),
    ("horse", "mare"),
    ("ferret", "polecat"),
    ("donkey", "mule"),
    ("goose", "gander"),
    ("raven", "crow"),
    ("pig", "piglet"),
    ("hedgehog", "urchin"),
    ("squirrel", "tree squirrel"),
    ("duck", "drake"),
]
PET_COATS = "grey white brown spotted black striped ginger golden".split()
PET_NAMES = "Pip Moss Dot Bramble Toffee Nib Soot Clover Hazel Biscuit Thimble Pepper".split()
STREETS = [
    "Mill Lane", "Church Street", "Harbour Road", "Well Street", "Rose Alley", "Bridge Street",
    "Tower Lane", "Garden Road", "Market Street", "North Gate", "Candle Row", "Willow Walk",
]  # fmt: skip
GUILDS = "Swan Anchor Crown Lion Star Wheel Rose Falcon Oak Key".split()
MONTHS = "January February March April May June July August September October November December".split()
RIVERS = "Aune Belder Corve Dell Esk Farrow Grane Hume".split()
FEASTS = "honey bread cheese plum nut cider fish flower".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLOURS = "red blue green yellow white black silver golden".split()
THINGS = "kite lantern whistle drum boat ribbon ball hat scarf mirror bell wagon puppet basket book key".split()
TRAITS = "brave curious kind clever shy cheerful patient stubborn gentle careful".split()
PLACES = [
    "the old mill",
    "the river bank",
    "the market square",
    "the apple orchard",
    "the edge of the forest",
    "the stone bridge",
    "the hay barn",
    "the lighthouse",
    "the school yard",
    "the quiet lake",
]
SPOTS = ["a hollow tree", "a pile of leaves", "an empty barrel", "a bush of roses", "a broken wall", "a heap of straw"]
ANIMALS = "fox crow mouse hare badger otter hedgehog sparrow".split()
FOODS = ["apple pie", "warm bread", "honey cakes", "plum soup", "fresh cheese", "nut biscuits"]
SEEDS = "pumpkin sunflower bean melon pear cherry".split()
GOODS = "apples eggs coins shells candles buttons pears books stamps cups".split()
BOXES = "boxes baskets bags jars shelves trays".split()
