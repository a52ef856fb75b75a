"""How the sandbox's categoriser reads a transcript: one declared table of words, no model behind it.

The table and the scoring only. A category has words (a whole word such as `table`, or the beginning of words
such as `cancel*`) and phrases, which are looked for as they stand, also in scripts that do not set words
apart by spaces. A category that is not in the table is looked for by its own name.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

# Words apart by spaces, phrases by commas. Earlier entries win a tie: narrow matters before wide ones.
KEYWORDS: Mapping[str, tuple[str, str]] = {
    "cancellation": (
        "cancel* stornier* storno kündig* annul* résili* cancela* resci*",
        "ending my subscription, dar de baja, doy de baja, terminar a minha assinatura, "
        "キャンセル, 解約, إلغاء, إنهاء",
    ),
    "refund": (
        "refund* reimburs* exchange rückerstatt* erstatt* rückgabe rembours* reembols* devol*",
        "money back, 返金, 返品, استرداد",
    ),
    "complaint": (
        "complain* unaccept* disappoint* rude beschwer* unverschämt plainte* queja* reclam*",
        "苦情, شكوى",
    ),
    "delivery": (
        "deliver* parcel* package* shipment* shipping track* courier* carrier liefer* paket* versand* "
        "sendung* livrais* livrer* colis envío* paquete* entreg* encomenda*",
        "荷物, 配送, 発送, 追跡, طرد, التوصيل",
    ),
    "billing": (
        "invoice* bill bills billing charge* pay payment* paying subscription* rechnung* abgebucht* zahl* "
        "überweis* lastschrift factur* débit* paiement* virement cobra* pago* pagar* fatur*",
        "請求, 支払, فاتورة, الدفع, خصم",
    ),
    "technical": (
        "error* bug bugs crash* app version* cache reinstall* wifi internet router fehler* stürz* absturz* "
        "plante* erreur* application aplicación aplicação erro bloqueia",
        "not working, stays blank, funktioniert nicht, ne marche pas, no funciona, "
        "エラー, アプリ, バージョン, خطأ, التطبيق",
    ),
    "account": (
        "account* password* login username* profil* verif* konto* passwort* anmeld* compte* connecter "
        "contraseña* cuenta* sesión senha* palavra-passe conta sessão",
        "log in, sign in, log into, mot de passe, "
        "パスワード, ログイン, アカウント, كلمة المرور, حساب, تسجيل الدخول",
    ),
    "booking": (
        "book booked booking* reserv* buch* réserv* breakfast frühstück* petit-déjeuner "
        "desayuno pequeno-almoço",
        "予約, 朝食, حجز, الإفطار",
    ),
    "spaceship": (
        "spaceship* spacecraft captain* cable* shield* hyperdrive* cooling reactor",
        "code to, engine overload",
    ),
    "trivia": ("trivia quiz*", "correct answer, next question, question number, your score"),
    "weather": (
        "weather forecast* rain raining rainy sunny snow* temperature* cloud* wind windy wetter* regen* "
        "météo* clima",
        "天気, الطقس",
    ),
    "doctor": (
        "doctor* dr medic* symptom* clinic* prescri* arzt* ärzt* rezept* médecin* médico*",
        "医者, 病院, طبيب",
    ),
    "bank": (
        "bank* balance* transfer* fraud* saving* checking pin routing überweis* kontostand* banque* banco*",
        "銀行, بنك, المصرف",
    ),
    "apartment": (
        "apartment* flat rent* landlord* bedroom* balcon* elevator* custodian viewing* wohnung* miete* "
        "appartement* apartament*",
        "部屋探し, شقة",
    ),
    "hotel": ("hotel* room rooms shuttle* concierge inn suite zimmer* chambre* habitaci*", "ホテル, فندق"),
    "party": (
        "party parties venue* guest* rsvp invit* host hosting birthday catering feier* fête* fiesta* festa*",
        "パーティー, حفلة",
    ),
    "plane": (
        "flight* plane planes airline* airport* boarding layover flug* vuelo* voo voos",
        "飛行機, رحلة جوية",
    ),
    "ride": (
        "ride rides taxi* uber lyft cab driver* pickup fahrt fahrten fahrer*",
        "pick up, タクシー, سيارة أجرة",
    ),
    "trip": (
        "trip trips direction* bus buses train* route* travel* walk* transit* destination* departure* "
        "zug bahn* reise* trajet* tren trem",
        "電車, 旅行, قطار",
    ),
    "restaurant": (
        "restaurant* table tables dinner lunch cuisine menu* waiter* dining tisch* abendessen mesa cena",
        "レストラン, テーブル, مطعم, طاولة",
    ),
    "food_order": (
        "pizza* coffee latte* starbucks frappuccino* topping* takeaway espresso* cappuccino* kaffee* belag*",
        "コーヒー, قهوة",
    ),
    "movie": (
        "movie* film films cinema* theater* showing* showtime* ticket* kino* vorstellung* cine",
        "映画, فيلم",
    ),
    "car_repair": (
        "mechanic* brake* tire tires engine* werkstatt* mechaniker* bremse*",
        "oil change, auto repair, my car, 修理, ميكانيكي",
    ),
    "appointment": (
        "appointment* meeting* schedul* reschedul* calendar* termin* besprechung* rendez-vous cita citas",
        "面談, موعد",
    ),
    "meeting": (
        "meeting* calendar* schedul* attend* conference* termin* besprechung* réunion* reunión*",
        "会議, اجتماع",
    ),
    "order": ("order orders ordered bestell* commande* pedido* encomenda*", "注文, طلبية"),
    "information": (
        "hours open opening offer* stock available information* öffnungszeit* geöffnet angebot* lager "
        "horaire* ouvert* offre* horario* abrim* oferta* horário* disponív*",
        "営業, 在庫, 再入荷, キャンペーン, مواعيد, العرض",
    ),
    "other": ("", ""),
}
# What a person wants to undo is named together with the thing: "cancel my booking" is a cancellation.
_WEIGHTS: Mapping[str, int] = {"cancellation": 3, "refund": 2, "information": 1, "order": 1}
_USUAL_WEIGHT = 2
# A word that is said over and over tells no more than one said three times.
_MOST_PER_WORD = 3
_FALLBACKS = ("other", "unknown", "general")
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def names_of(text: str) -> list[str]:
    """The categories to choose from, out of the workflow's input (a JSON list of names).

    Raises:
        ValueError: it is no such list.
    """
    names = json.loads(text)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("a JSON list of names is needed")
    return names


def categorise(transcript: str, names: Sequence[str]) -> tuple[str, float]:
    """The category a transcript belongs to, and how sure the rules are (0 to 1).

    The same transcript and names give the same answer, in whatever order the names come. Where no keyword is
    found it is `other` (or `unknown`, `general`, whichever is offered; else the first name of all).
    """
    text = transcript.casefold()
    words = Counter(_WORD.findall(text))
    scores: dict[str, int] = {}
    for name in names:
        whole, stems, runs = _patterns(name)
        hits = sum(min(words[word], _MOST_PER_WORD) for word in whole)
        hits += sum(min(text.count(run), _MOST_PER_WORD) for run in runs)
        if stems:
            hits += sum(min(count, _MOST_PER_WORD) for word, count in words.items() if word.startswith(stems))
        if hits:
            scores[name] = hits * _WEIGHTS.get(name, _USUAL_WEIGHT)
    if not scores:
        return next((name for name in _FALLBACKS if name in names), min(names)), 0.2
    ranked = sorted(scores, key=lambda name: (-scores[name], _PLACES.get(name, len(_PLACES)), name))
    best = scores[ranked[0]]
    second = scores[ranked[1]] if len(ranked) > 1 else 0
    return ranked[0], round(0.5 + 0.49 * (best - second) / (best + second), 2)


@lru_cache(maxsize=512)
def _patterns(name: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Whole words, beginnings of words, and phrases that speak for a category."""
    words, phrases = KEYWORDS.get(name, (name.replace("_", " "), ""))
    each = [word.casefold() for word in words.split()]
    return (
        tuple(word for word in each if not word.endswith("*")),
        tuple(word[:-1] for word in each if word.endswith("*")),
        tuple(phrase.strip().casefold() for phrase in phrases.split(",") if phrase.strip()),
    )


_PLACES = {name: place for place, name in enumerate(KEYWORDS)}
