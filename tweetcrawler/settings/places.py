"""The places that have trends: X knows them by number (WOEID), people by name.

X documents no call that lists them any more; the numbers are those that Yahoo gave out and
that X kept. Any other place may be given by its number.
"""

from __future__ import annotations

import re
import unicodedata

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.targets import Place

# fmt: off
_NUMBERS = {
    "worldwide": 1,
    # countries
    "algeria": 23424740, "argentina": 23424747, "australia": 23424748, "austria": 23424750,
    "bahrain": 23424753, "belarus": 23424765, "belgium": 23424757, "brazil": 23424768,
    "canada": 23424775, "chile": 23424782, "colombia": 23424787, "denmark": 23424796,
    "dominican republic": 23424800, "ecuador": 23424801, "egypt": 23424802, "france": 23424819,
    "germany": 23424829, "ghana": 23424824, "greece": 23424833, "guatemala": 23424834,
    "india": 23424848, "indonesia": 23424846, "ireland": 23424803, "israel": 23424852,
    "italy": 23424853, "japan": 23424856, "jordan": 23424860, "kenya": 23424863, "korea": 23424868,
    "kuwait": 23424870, "latvia": 23424874, "lebanon": 23424873, "malaysia": 23424901,
    "mexico": 23424900, "netherlands": 23424909, "new zealand": 23424916, "nigeria": 23424908,
    "norway": 23424910, "oman": 23424898, "pakistan": 23424922, "panama": 23424924,
    "peru": 23424919, "philippines": 23424934, "poland": 23424923, "portugal": 23424925,
    "puerto rico": 23424935, "qatar": 23424930, "russia": 23424936, "saudi arabia": 23424938,
    "singapore": 23424948, "south africa": 23424942, "spain": 23424950, "sweden": 23424954,
    "switzerland": 23424957, "thailand": 23424960, "turkey": 23424969, "ukraine": 23424976,
    "united arab emirates": 23424738, "united kingdom": 23424975, "united states": 23424977,
    "venezuela": 23424982, "vietnam": 23424984,
    # cities
    "accra": 1326075, "adelaide": 1099805, "ahmedabad": 2295402, "amsterdam": 727232,
    "ankara": 2343732, "athens": 946738, "atlanta": 2357024, "austin": 2357536,
    "baltimore": 2358820, "bandung": 1047180, "bangalore": 2295420, "bangkok": 1225448,
    "barcelona": 753692, "belfast": 44544, "belo horizonte": 455821, "berlin": 638242,
    "bilbao": 754542, "birmingham": 12723, "bogota": 368148, "bologna": 711080, "bordeaux": 580778,
    "boston": 2367105, "brasilia": 455819, "bremen": 641142, "brisbane": 1100661, "bristol": 13963,
    "buenos aires": 468739, "busan": 1132447, "cairo": 1521894, "calgary": 8775,
    "canberra": 1100968, "cape town": 1591691, "caracas": 395269, "cardiff": 15127,
    "charlotte": 2378426, "chennai": 2295424, "chicago": 2379574, "cincinnati": 2380358,
    "cleveland": 2381475, "cologne": 667931, "cork": 560472, "curitiba": 455822, "dallas": 2388929,
    "delhi": 20070458, "denver": 2391279, "detroit": 2391585, "dortmund": 645458, "dresden": 645686,
    "dubai": 1940345, "dublin": 560743, "durban": 1580913, "dusseldorf": 646099, "edinburgh": 19344,
    "edmonton": 8676, "essen": 648820, "fortaleza": 455830, "frankfurt": 650272, "fukuoka": 1117099,
    "geneva": 782538, "genoa": 716085, "glasgow": 21125, "gothenburg": 890869,
    "guadalajara": 124162, "guayaquil": 375733, "hamburg": 656958, "hanoi": 1236594,
    "ho chi minh city": 1252431, "houston": 2424766, "hyderabad": 2295414, "indianapolis": 2427032,
    "istanbul": 2344116, "izmir": 2344117, "jacksonville": 2428344, "jaipur": 2295401,
    "jakarta": 1047378, "jeddah": 1939873, "johannesburg": 1582504, "kansas city": 2430683,
    "karachi": 2211096, "kharkiv": 922137, "kobe": 1117545, "kolkata": 2295386, "krakow": 502075,
    "kuala lumpur": 1154781, "kyiv": 924938, "lagos": 1398823, "lahore": 2211177,
    "las vegas": 2436704, "lausanne": 783058, "leeds": 26042, "leipzig": 671072, "lille": 608105,
    "lima": 418440, "liverpool": 26734, "london": 44418, "los angeles": 2442047, "lucknow": 2295377,
    "lviv": 924943, "lyon": 609125, "madrid": 766273, "malaga": 766356, "manaus": 455833,
    "manchester": 28218, "manila": 1199477, "maracaibo": 395270, "marseille": 610264,
    "mecca": 1939897, "medan": 1047908, "medellin": 368150, "melbourne": 1103816,
    "memphis": 2449323, "mexico city": 116545, "miami": 2450022, "milan": 718345,
    "milwaukee": 2451822, "minneapolis": 2452078, "minsk": 834463, "moscow": 2122265,
    "mombasa": 1528335, "monterrey": 134047, "montpellier": 612977, "montreal": 3534,
    "mumbai": 2295411, "munich": 676757, "nagoya": 1117817, "nagpur": 2282863, "nairobi": 1528488,
    "nantes": 613858, "naples": 719258, "nashville": 2457170, "new orleans": 2458833,
    "new york": 2459115, "newcastle": 30079, "nottingham": 30720, "odesa": 929398,
    "orlando": 2466256, "osaka": 15015370, "oslo": 862592, "ottawa": 3369, "palermo": 719846,
    "paris": 615702, "perth": 1098081, "philadelphia": 2471217, "phoenix": 2471390,
    "pittsburgh": 2473224, "portland": 2475687, "porto alegre": 455823, "poznan": 514048,
    "pretoria": 1586638, "puebla": 137612, "pune": 2295412, "quito": 375732, "raleigh": 2478307,
    "rawalpindi": 2211387, "recife": 455824, "rennes": 619163, "riga": 854823,
    "rio de janeiro": 455825, "riyadh": 1939753, "rome": 721943, "rosario": 466862,
    "rotterdam": 733075, "sacramento": 2486340, "salt lake city": 2487610, "salvador": 455826,
    "san antonio": 2487796, "san diego": 2487889, "san francisco": 2487956, "san jose": 2488042,
    "santiago": 349859, "santo domingo": 76456, "sao paulo": 455827, "sapporo": 1118108,
    "seattle": 2490383, "seoul": 1132599, "seville": 774508, "sheffield": 34503, "soweto": 1587677,
    "st louis": 2486982, "stockholm": 906057, "strasbourg": 627791, "stuttgart": 698064,
    "surabaya": 1044316, "sydney": 1105779, "tampa": 2503863, "the hague": 726874,
    "thessaloniki": 963291, "tijuana": 149361, "tokyo": 1118370, "toronto": 4118,
    "toulouse": 628886, "turin": 725003, "utrecht": 734047, "valencia": 776688, "vancouver": 9807,
    "vienna": 551801, "warsaw": 523920, "washington": 2514815, "winnipeg": 2972, "wroclaw": 526363,
    "yokohama": 1118550, "zaragoza": 779063, "zurich": 784794,
}
# fmt: on
_OTHER_NAMES = {
    "bengaluru": "bangalore",
    "den haag": "the hague",
    "england": "united kingdom",
    "global": "worldwide",
    "great britain": "united kingdom",
    "kiev": "kyiv",
    "koln": "cologne",
    "munchen": "munich",
    "new delhi": "delhi",
    "new york city": "new york",
    "south korea": "korea",
    "turkiye": "turkey",
    "uae": "united arab emirates",
    "uk": "united kingdom",
    "us": "united states",
    "usa": "united states",
    "world": "worldwide",
}


def place(text: str) -> Place:
    """The place of a name, in any case and with or without accents, or of a number.

    **Errors**: `ConfigurationError` with names like it.
    """
    if text.strip().isdecimal() and 0 < int(text) < 2**31:
        number = int(text)
        return Place(
            number, next((name for name, woeid in _NUMBERS.items() if woeid == number), str(number))
        )
    name = _folded(text)
    name = _OTHER_NAMES.get(name, name)
    if name in _NUMBERS:
        return Place(_NUMBERS[name], name)
    import difflib  # only needed for an error

    near = difflib.get_close_matches(name, [*_NUMBERS, *_OTHER_NAMES], n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "give its number (WOEID)."
    raise ConfigurationError(f"No place of trends is known as {text.strip()[:40]!a}; {advice}")


def _folded(text: str) -> str:
    plain = (
        unicodedata.normalize("NFKD", text.replace("\u0131", "i"))
        .encode("ascii", "ignore")
        .decode()
        .lower()
    )
    return " ".join(re.findall(r"[a-z]+", plain))
