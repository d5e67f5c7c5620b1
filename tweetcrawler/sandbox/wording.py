# ruff: noqa: RUF001  texts of the world in many scripts
"""What people say in the made world: fragments of texts, names, places, things."""

from __future__ import annotations

from html import escape
from typing import Any


def _escaped(*texts: str) -> tuple[str, ...]:
    return tuple(escape(text, quote=False) for text in texts)


OPENERS = _escaped(
    "Honestly,", "Good morning!", "Hot take:", "Today I learned:", "Update:", "Breaking:", "Not going to lie,",
    "So...", "Reminder:", "Wow,", "Sigh.", "PSA:", "Friends,", "Late to this, but", "Finally!", "Unpopular opinion:",
    "Just in:", "Q&A time:", "Small joy:", "Ugh,", "Thread <1>:", "Story time:", "I checked twice:", "For the record,",
    "Lunch & a thought:", "Day 12:", "Once more:", "Dear diary,", "In case you missed it:", "Yes & no:",
)
SUBJECTS = _escaped(
    "the new library", "this bus line", "our little garden", "the night train", "my sister's bakery",
    "the city council", "that documentary", "the weather up here", "our team's release", "the old bridge",
    "this keyboard", "the museum café", "the second season", "my first marathon", "the neighbour's rooster",
    "our open data portal", "the football match", "that lecture on whales", "the coffee here", "this phone battery",
    "the ferry to the islands", "our book club", "R&D at work", "the new bike lane", "my grandmother's recipe",
    "the solar roof", "this queue", "the choir rehearsal", "the budget vote", "a stranger on the tram",
    "the night sky", "the printer on floor 3", "our cat", "the exhibition", "the update to my laptop",
    "the harvest", "the repair shop", "the local election", "the sourdough", "that penalty",
)
PREDICATES = _escaped(
    "made my whole week", "is an absolute disaster", "works better than I hoped", "was cancelled again",
    "is the best thing this year", "leaves me speechless", "is broken, and nobody cares", "was worth every minute",
    "is terribly overrated", "opens next Thursday", "has doubled in price", "won a prize, so proud!",
    "failed three times in a row", "is quietly brilliant", "makes me so angry", "gives me hope",
    "scored 3 > 2 in the end", "is still closed", "was rude & loud", "deserves far more love",
    "moved to the main square", "feels like a scam", "is kind, patient and fun", "arrived two hours late",
    "needs volunteers", "starts at 7 pm", "is gone for good", "is a miracle of engineering",
    "was boring, sorry", "changed how I see things", "is <3", "hurts to watch", "was awful, never again",
    "is simply beautiful", "turned out fine", "costs less than a lunch", "confuses everyone", "is a joy",
    "ended in tears", "got a standing ovation",
)
CLOSERS = _escaped(
    "", "", "", "", " Who else?", " Thoughts?", " More tomorrow.", " Thank you all!", " I can't even.",
    " Please share.", " (sound on)", " Do not miss it.", " Never change.", " Enough said.", " That's all & good night.",
    " We deserve better.", " Numbers below.", " Come and see!", " Shame.", " What a day...",
)
LONG = _escaped(
    "We counted every seat, every ticket and every late arrival over eleven weeks, and the picture is clearer than"
    " any of us expected when we began.",
    "The first thing to say is that nobody did this alone: teachers, drivers, cooks & two very patient electricians"
    " gave us their evenings.",
    "If you only remember one number, remember this: 4 < 9, and yet the budget was written as if it were the other"
    " way round.",
    "I asked the same question in six towns and got six honest, angry, hopeful and very different answers.",
    "There were mistakes, some of them mine, and I would rather list them here than see them repeated next year.",
    "What surprised me most is how quickly trust came back once people could read the minutes for themselves.",
    "None of this is a success yet, but it is no longer the failure that it was in spring, and that is a start.",
    "A friend said it best: you cannot repair a roof in the rain, but you can at least move the books.",
)
OTHER_LANGUAGES: dict[str, tuple[str, ...]] = {
    "es": _escaped("Hoy el mercado olía a naranjas.", "No puedo creer lo que acaba de pasar.", "¡Qué partido, por favor!",
                   "La biblioteca abre hasta las 21 h.", "Gracias a todos por venir & ayudar.",
                   "Otra vez sin luz en el barrio."),
    "pt": _escaped("Bom dia, Lisboa!", "Que saudade do mar.", "O autocarro atrasou outra vez.",
                   "Receita nova, ficou ótima.", "Amanhã há concerto na praça."),
    "fr": _escaped("Le train de 7h12 est encore supprimé.", "Magnifique exposition ce soir.",
                   "On a gagné, je n'y crois pas !", "Pain & fromage, rien de plus.", "Réunion reportée à jeudi."),
    "de": _escaped("Schöner Abend am Fluss.", "Der Zug fällt schon wieder aus.", "Das Heft kostet < 5 Euro.",
                   "Großartige Arbeit, danke!", "Morgen früh geht es weiter."),
    "ja": _escaped("今日はいい天気ですね。", "新しい本を買いました。", "電車が遅れています。", "ありがとうございます！",
                   "猫がまた寝ている。"),
    "ko": _escaped("오늘 날씨가 정말 좋네요.", "버스가 또 늦었어요.", "고양이가 자고 있어요."),
    "ar": _escaped("صباح الخير يا أصدقاء", "المكتبة الجديدة رائعة جدا", "الحافلة تأخرت مرة أخرى", "شكرا لكم جميعا"),
    "he": _escaped("בוקר טוב לכולם", "הספרייה החדשה נהדרת", "האוטובוס שוב מאחר"),
    "hi": _escaped("आज मौसम बहुत अच्छा है।", "बस फिर देर से आई।", "सभी को धन्यवाद!"),
    "tr": _escaped("Bugün hava çok güzel.", "Otobüs yine geç kaldı.", "Herkese teşekkürler!"),
    "ru": _escaped("Сегодня отличная погода.", "Автобус снова опоздал.", "Спасибо всем!"),
}
LANGUAGES = ("en",) * 74 + ("es",) * 6 + ("pt",) * 3 + ("fr",) * 3 + ("de",) * 3 + ("ja",) * 3 + (
    "ko", "ar", "ar", "he", "hi", "tr", "ru", "und")
EMOJI = ("😀", "🎉", "❤️", "👩‍🔬", "🇵🇹", "👍🏽", "🔥", "😢", "🌊", "🚲", "☕", "🐈", "📚", "🤷🏻‍♀️", "✨", "😡", "👨‍👩‍👧", "🥖")
TAGS = (
    "opendata", "climate", "bookclub", "football", "MondayMotivation", "Python", "cycling", "baking", "elections",
    "nightsky", "cats", "museum", "Lisbon", "trains", "gardening", "science", "jazz", "coffee", "startup", "health",
    "history", "weather", "film", "gaming", "maps", "linguistics", "solar", "running", "chess", "theatre",
    "photography", "travel", "architecture", "poetry", "birds", "sourdough", "datascience", "transit", "water",
    "radio", "été", "東京", "café2026", "the100", "women_in_tech", "snow", "harvest", "marathon", "opensource", "ai",
)
CASHTAGS = ("ACME", "BOLT", "CORN", "DYNA", "EURO", "FERN", "GALE", "HUSK")
NAMED = (
    ("Lisbon", "Place"), ("Nairobi", "Place"), ("Osaka", "Place"), ("New York", "Place"), ("Porto Alegre", "Place"),
    ("Ada Lovelace", "Person"), ("Octavia Butler", "Person"), ("Wangari Maathai", "Person"),
    ("Acme Corp", "Organization"), ("City Library", "Organization"), ("United Bakers", "Organization"),
    ("Orbit Phone", "Product"), ("Kettle 3000", "Product"), ("Founders Day", "Other"), ("World Cup", "Other"),
)
CONTEXTS: tuple[tuple[dict[str, str], dict[str, str]], ...] = tuple(
    ({"id": domain, "name": kind, "description": f"{kind} that posts are about"},
     {"id": entity, "name": name} | ({"description": about} if about else {}))
    for domain, kind, entity, name, about in (
        ("10", "Person", "847090575954272001", "Ada Lovelace", "Mathematician and writer"),
        ("35", "Politician", "847090575954272002", "Marisol Vega", ""),
        ("45", "Brand Vertical", "781974596740190003", "Travel", ""),
        ("46", "Brand Category", "781974596752842004", "Services", ""),
        ("47", "Brand", "10045225405", "Acme", "Maker of kettles"),
        ("65", "Interests and Hobbies Vertical", "848920371311001606", "Technology", "Technology and computing"),
        ("66", "Interests and Hobbies Category", "848921413196984307", "Computer programming", ""),
        ("67", "Interests and Hobbies", "841378993408425908", "Bread", ""),
        ("131", "Unified Twitter Taxonomy", "1488973753274929009", "Trains", "Travel on rails"),
        ("6", "Sports Event", "1488973753274929010", "Sunday league: 1 & 2", ""),
    )
)
SOURCES = ("Twitter Web App", "Twitter for iPhone", "Twitter for Android", "TweetDeck", "Buffer", "IFTTT",
           "My <Own> Bot & Friends")
SITES = (
    ("news.example.org", "Local news"), ("blog.example.com", "A blog"), ("maps.example.net", "Maps for all"),
    ("data.example.org", "Open data"), ("shop.example.com", "A small shop"), ("video.example.net", "Films"),
)
PLACES: tuple[dict[str, Any], ...] = (
    {"id": "b4d3f6a1c0e92157", "full_name": "Lisbon, Portugal", "name": "Lisbon", "country": "Portugal",
     "country_code": "PT", "place_type": "city",
     "geo": {"type": "Feature", "bbox": [-9.229, 38.691, -9.090, 38.796], "properties": {}}},
    {"id": "5c62ffb0f0f3479d", "full_name": "Nairobi, Kenya", "name": "Nairobi", "country": "Kenya",
     "country_code": "KE", "place_type": "city",
     "geo": {"type": "Feature", "bbox": [36.650, -1.445, 37.104, -1.160], "properties": {}}},
    {"id": "01a9a39529b27f36", "full_name": "Manhattan, NY", "name": "Manhattan", "country": "United States",
     "country_code": "US", "place_type": "city", "contained_within": ["94965b2c45386f87"],
     "geo": {"type": "Feature", "bbox": [-74.026, 40.683, -73.910, 40.877], "properties": {}}},
    {"id": "07d9cd6afd884001", "full_name": "City Library & Café", "name": "City Library & Café",
     "country": "Österreich", "country_code": "AT", "place_type": "poi",
     "geo": {"type": "Feature", "bbox": [16.35, 48.20, 16.35, 48.20], "properties": {}}},
    {"id": "e0d6ec3b8b2f0c11", "full_name": "日本", "name": "日本", "country": "日本", "country_code": "JP",
     "place_type": "country",
     "geo": {"type": "Feature", "bbox": [122.93, 20.42, 153.98, 45.52], "properties": {}}},
)
FIRST_NAMES = (
    "Ada", "Bao", "Carla", "Dario", "Elif", "Farid", "Greta", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira", "Nuno",
    "Olga", "Pia", "Quim", "Rosa", "Sami", "Tara", "Uma", "Vera", "Wren", "Xenia", "Yusuf", "Zora",
)
LAST_NAMES = (
    "Almeida", "Berg", "Castro", "Demir", "Eze", "Fischer", "Garcia", "Haddad", "Ito", "Jensen", "Kimani", "Lopes",
    "Müller", "Novak", "O'Brien", "Park", "Rossi", "Silva", "Tanaka", "Ueda", "Vega", "Weiss", "Yilmaz", "Zhang",
)
TRADES = ("Bakes", "Codes", "Maps", "Draws", "Reads", "Sings", "Runs", "Grows", "Writes", "Films", "Cooks", "Sails")
DESCRIPTIONS = _escaped(
    "Reader, cyclist, occasional baker.", "Opinions are my own & subject to change.", "Data journalist.",
    "I write about trains.", "She/her. Maps, mostly.", "Views: mine. Cats: borrowed.", "Teacher <3", "",
    "Engineer at a small company.\nFather of two.", "كاتب وقارئ", "写真と猫。", "Official account. No replies at night.",
)
LOCATIONS = ("Lisbon", "Nairobi, Kenya", "somewhere else", "東京", "Berlin & Wien", "", "", "New York, NY", "🌍")
ARTICLE_TITLES = ("What the harvest taught us", "Eleven weeks of buses", "A field guide to queues")
POLL_LABELS = (("Yes", "No"), ("Tea", "Coffee", "Water"), ("Spring", "Summer", "Autumn", "Winter"),
               ("Agree 👍", "Disagree", "See answers"))
WITHHELD_TEXT = "This account is temporarily unavailable because it violates the media policy."
