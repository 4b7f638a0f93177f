#!/usr/bin/env python3
"""Writes the demo's text: a sentiment set, a named-entity set and, with --out, a pretraining corpus.

Everything comes from the grammar below and one seed; only the standard library is used.

    python make_text.py                      # sentiment/*.tsv and ner/*.conll beside this file
    python make_text.py --out corpus.txt     # the same, and the unlabelled corpus (one document a line)

Entries that end in `*` are kept out of the labelled train and validation splits: they occur only in
the test split (and, unlabelled, in the corpus). A template listed under a `*_TEST` name likewise.
"""

import argparse
import random
import re
from pathlib import Path

SEED = 20231
SENTIMENT_SIZES = {"train": 2000, "validation": 300, "test": 500}
NER_SIZES = {"train": 1500, "validation": 250, "test": 400}
CORPUS_DOCUMENTS = 80_000


class Gen:
    """A seeded source of choices that knows which entries the current split may use."""

    def __init__(self, seed, split):
        self.rng = random.Random(f"{seed}-{split}")
        self.split = split
        self.test_only = []  # the test-only entries drawn for the current sentence

    def pick(self, items):
        """One entry; `*` entries only outside train and validation, and more often in test."""
        if self.split in ("train", "validation"):
            items = [i for i in items if not is_starred(i)]
            return self.rng.choice(items)
        if self.split == "test":
            starred = [i for i in items if is_starred(i)]
            if starred and self.rng.random() < 0.15:
                item = unstar(self.rng.choice(starred))
                self.test_only.append(item if isinstance(item, str) else item[0])
                return item
            items = [i for i in items if not is_starred(i)]
            return self.rng.choice(items)
        return unstar(self.rng.choice(items))

    def chance(self, p):
        return self.rng.random() < p

    def is_novel(self, text):
        """Does the text contain a test-only entry drawn since the list was last cleared?"""
        text = text.lower()
        return any(all(part.lower() in text for part in re.split(r"\{\w+\}", entry)) for entry in self.test_only)


def is_starred(item):
    return (item if isinstance(item, str) else item[0]).endswith("*")


def unstar(item):
    if isinstance(item, str):
        return item.rstrip("*")
    return (item[0].rstrip("*"), *item[1:])


def upper_first(text):
    return text[0].upper() + text[1:]


def a(phrase):
    """The phrase with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith("one") else "a ") + phrase


def words(text):
    return text.split()


def lines(text):
    return [part.strip() for part in text.strip().split("|")]


# ---------------------------------------------------------------------------------------------
# Sentiment: lexicon
# ---------------------------------------------------------------------------------------------

POS, NEG = "positive", "negative"
OTHER = {POS: NEG, NEG: POS}

ADJECTIVES = {
    "any": {
        POS: words("good great wonderful excellent superb delightful brilliant lovely fine impressive "
                   "first-rate* splendid* marvellous*"),
        NEG: words("bad terrible awful poor dreadful disappointing mediocre hopeless miserable weak "
                   "second-rate* abysmal* horrid*"),
    },
    "story": {
        POS: words("gripping clever moving original witty believable charming fresh memorable thrilling "
                   "absorbing* inventive* touching*"),
        NEG: words("dull predictable thin confusing silly clumsy flat lifeless forgettable tedious "
                   "hollow* laboured* muddled*"),
    },
    "people": {
        POS: words("kind friendly patient helpful cheerful attentive polite generous welcoming "
                   "gracious* thoughtful* considerate*"),
        NEG: words("rude careless impatient bored sullen unhelpful arrogant lazy hostile "
                   "grumpy* dismissive* offhand*"),
    },
    "food": {
        POS: words("tasty delicious fresh crisp tender fragrant creamy satisfying well-seasoned "
                   "heavenly* flavourful* scrumptious*"),
        NEG: words("bland cold greasy stale burnt soggy dry tasteless watery "
                   "rubbery* lukewarm* inedible*"),
    },
    "room": {
        POS: words("clean quiet spacious comfortable bright cosy tidy elegant inviting "
                   "spotless* airy* immaculate*"),
        NEG: words("dirty noisy cramped dark damp shabby stuffy cold smelly "
                   "dusty* grim* mouldy*"),
    },
    "seat": {
        POS: words("comfortable soft warm clean roomy cosy inviting snug*"),
        NEG: words("hard lumpy narrow damp creaky dirty broken saggy*"),
    },
    "tech": {
        POS: words("reliable fast sturdy precise handy smooth accurate solid clever "
                   "dependable* responsive* robust*"),
        NEG: words("slow flimsy clumsy unreliable faulty useless awkward noisy inaccurate "
                   "fiddly* sluggish* shoddy*"),
    },
    "nature": {
        POS: words("lovely peaceful stunning gentle well-kept beautiful quiet magical "
                   "breathtaking* serene* glorious*"),
        NEG: words("ugly muddy crowded littered overgrown dreary boring "
                   "bleak* neglected* featureless*"),
    },
    "art": {
        POS: words("lively beautiful warm graceful stirring tender elegant bold subtle "
                   "radiant* luminous* exquisite*"),
        NEG: words("shrill lifeless clumsy tuneless harsh crude sloppy flat "
                   "grating* leaden* amateurish*"),
    },
    "price": {
        POS: words("fair reasonable sensible affordable moderate modest*"),
        NEG: words("outrageous steep absurd unfair ridiculous shocking*"),
    },
}

# domain -> things (the whole), aspects (noun, s/p/m for singular, plural, mass, class of
# adjectives), what one does again, and events that say it all without an adjective.
DOMAINS = {
    "film": {
        "things": ["film", "sequel", "comedy", "thriller", "cartoon*"], "class": "story",
        "aspects": [("plot", "s", "story"), ("dialogue", "m", "story"), ("ending", "s", "story"),
                    ("opening scene", "s", "story"), ("soundtrack", "s", "art"), ("acting", "m", "art"),
                    ("camera work", "m", "art"), ("costumes", "p", "art"), ("humour*", "m", "story"),
                    ("second half*", "s", "story")],
        "again": "watch it again",
        POS: lines("I stayed until the last name in the credits | the whole row was laughing |"
                   "I forgot about my popcorn | my father cried twice and thanked me |"
                   "we talked about it all the way home | two hours passed like ten minutes |"
                   "the audience stood up and clapped* | I was still humming the tune on the bus*"),
        NEG: lines("I checked my watch every five minutes | half the row walked out |"
                   "I fell asleep before the second act | my father asked when it would end |"
                   "we left before the credits | two hours felt like a week |"
                   "the man beside me snored and I envied him* | I counted the ceiling lamps*"),
    },
    "café": {
        "things": ["café", "restaurant", "bakery", "pizzeria", "tea room*"], "class": "any",
        "aspects": [("soup", "s", "food"), ("coffee", "m", "food"), ("bread", "m", "food"),
                    ("cake", "s", "food"), ("pancakes", "p", "food"), ("fish", "m", "food"),
                    ("salad", "s", "food"), ("waiter", "s", "people"), ("owner", "s", "people"),
                    ("terrace", "s", "room"), ("prices", "p", "price"), ("menu", "s", "any"),
                    ("dumplings*", "p", "food"), ("waitress*", "s", "people")],
        "again": "eat there again",
        POS: lines("we scraped every plate clean | I asked for the recipe | we stayed for a second dessert |"
                   "the cook came out to greet us | we have already booked a table for next week |"
                   "even my fussy uncle wanted more | I licked the spoon when nobody was looking* |"
                   "we left a very large tip*"),
        NEG: lines("we sent two plates back | I found a hair in my glass | we went home hungry |"
                   "nobody took our order for an hour | the bill was wrong and nobody said sorry |"
                   "even my hungry uncle left his plate full | the dog refused the leftovers* |"
                   "we left without paying for dessert because it never came*"),
    },
    "hotel": {
        "things": ["hotel", "guest house", "hostel", "inn*"], "class": "room",
        "aspects": [("room", "s", "room"), ("bed", "s", "seat"), ("breakfast", "s", "food"),
                    ("lobby", "s", "room"), ("receptionist", "s", "people"), ("bathroom", "s", "room"),
                    ("garden", "s", "nature"), ("staff", "p", "people"), ("price", "s", "price"),
                    ("balcony*", "s", "room"), ("porter*", "s", "people")],
        "again": "stay there again",
        POS: lines("I slept like a child | we added a third night | they found us a better room for nothing |"
                   "someone had left flowers on the table | we did not want to leave |"
                   "they sent on the scarf I had left behind | the children begged to stay another week* |"
                   "we felt at home within minutes*"),
        NEG: lines("I did not sleep at all | we left a day early | they had lost our booking |"
                   "someone had left hair in the bath | we could not wait to leave |"
                   "they charged us twice for one night | the children begged to go home* |"
                   "we slept in the car in the end*"),
    },
    "gadget": {
        "things": ["phone", "laptop", "vacuum cleaner", "kettle", "printer*"], "class": "tech",
        "aspects": [("battery", "s", "tech"), ("keyboard", "s", "tech"), ("screen", "s", "tech"),
                    ("charger", "s", "tech"), ("app", "s", "tech"), ("camera", "s", "tech"),
                    ("case", "s", "tech"), ("help line", "s", "people"), ("price", "s", "price"),
                    ("hinge*", "s", "tech"), ("remote control*", "s", "tech")],
        "again": "buy it again",
        POS: lines("it worked straight out of the box | I bought a second one for my mother |"
                   "it has not failed once in a year | setting it up took one minute |"
                   "it survived a fall down the stairs | I use it every single day |"
                   "my old one went to the attic for good* | it still runs like new*"),
        NEG: lines("it stopped working after a week | I sent it back the next morning |"
                   "it has failed five times in a year | setting it up took a whole weekend |"
                   "it broke the first time I dropped it | it now lives in a drawer |"
                   "I dug my old one out of the attic* | smoke came out of it on the second day*"),
    },
    "book": {
        "things": ["book", "novel", "biography", "cookbook", "memoir*"], "class": "story",
        "aspects": [("plot", "s", "story"), ("first chapter", "s", "story"), ("characters", "p", "story"),
                    ("prose", "m", "story"), ("translation", "s", "art"), ("ending", "s", "story"),
                    ("drawings", "p", "art"), ("hero", "s", "story"), ("cover", "s", "any"),
                    ("narrator*", "s", "story"), ("last chapter*", "s", "story")],
        "again": "read it again",
        POS: lines("I read it in one night | I missed my stop twice because of it |"
                   "I have lent my copy to three friends | I started it again the same day |"
                   "I was sorry when it ended | I underlined half of it |"
                   "my daughter hid it so that I would sleep* | I ordered everything else she wrote*"),
        NEG: lines("I gave up on page forty | I used it to prop up a table |"
                   "I have given my copy away | I skipped whole chapters |"
                   "I was glad when it ended | I forgot who was who and did not care |"
                   "my daughter found it a good cure for sleepless nights* | it went straight to the charity shop*"),
    },
    "hike": {
        "things": ["hike", "walk", "coast path", "ridge walk*"], "class": "nature",
        "aspects": [("trail", "s", "nature"), ("view", "s", "nature"), ("valley", "s", "nature"),
                    ("hut", "s", "room"), ("guide", "s", "people"), ("lake", "s", "nature"),
                    ("picnic spot", "s", "nature"), ("map", "s", "tech"),
                    ("meadow*", "s", "nature"), ("shelter*", "s", "room")],
        "again": "walk it again",
        POS: lines("we did not meet a soul all day | we saw deer at every turn | I took a hundred photographs |"
                   "the children ran ahead singing | we swam under a waterfall | nobody wanted to turn back |"
                   "we sang all the way down* | the sunset from the top left us speechless*"),
        NEG: lines("we got lost three times | we saw nothing but fog and fences | my boots were full of water |"
                   "the children cried the whole way | we walked beside a motorway | everybody wanted to turn back |"
                   "we quarrelled all the way down* | the wasps at the top sent us running*"),
    },
    "concert": {
        "things": ["concert", "gig", "recital", "musical*"], "class": "art",
        "aspects": [("singer", "s", "art"), ("orchestra", "s", "art"), ("sound", "m", "art"),
                    ("hall", "s", "room"), ("encore", "s", "art"), ("drummer", "s", "art"),
                    ("second song", "s", "art"), ("tickets", "p", "price"),
                    ("choir*", "s", "art"), ("pianist*", "s", "art")],
        "again": "hear them again",
        POS: lines("nobody wanted the night to end | the crowd sang every word | I had tears in my eyes |"
                   "we danced until our feet hurt | they played three encores | I bought the record on the way out |"
                   "strangers hugged each other at the end* | I got goose bumps from the first note*"),
        NEG: lines("everybody wanted the night to end | the crowd talked through every song | I had a headache by nine |"
                   "we left at the interval | they forgot the words twice | I asked for my money back |"
                   "strangers rolled their eyes at each other* | I put my earplugs in after the first note*"),
    },
    "museum": {
        "things": ["museum", "gallery", "castle tour", "exhibition*"], "class": "story",
        "aspects": [("audio guide", "s", "story"), ("halls", "p", "room"), ("guide", "s", "people"),
                    ("collection", "s", "story"), ("entry fee", "s", "price"), ("labels", "p", "story"),
                    ("staff", "p", "people"), ("courtyard*", "s", "nature"), ("display*", "s", "story")],
        "again": "visit it again",
        POS: lines("we stayed until they closed | my son asked a hundred questions | I learned something in every room |"
                   "we went back the next day | even the gift shop was a joy | the afternoon flew by |"
                   "my son now wants to be a painter* | we signed up as members on the spot*"),
        NEG: lines("we were out again in ten minutes | my son asked when we could leave | I learned nothing in any room |"
                   "half the rooms were closed | even the gift shop was empty | the afternoon dragged on |"
                   "my son sat down and refused to go on* | we asked for a refund on the spot*"),
    },
    "course": {
        "things": ["course", "workshop", "language class", "pottery class*"], "class": "story",
        "aspects": [("teacher", "s", "people"), ("lessons", "p", "story"), ("classroom", "s", "room"),
                    ("textbook", "s", "story"), ("exercises", "p", "story"), ("fee", "s", "price"),
                    ("lectures*", "p", "story"), ("tutor*", "s", "people")],
        "again": "take it again",
        POS: lines("I learned more in a week than in a year at school | nobody missed a single lesson |"
                   "I have signed up for the next level | every question got an answer |"
                   "I can now hold a real conversation | the group still meets every month |"
                   "I surprised my whole family at dinner* | the hours went by like minutes*"),
        NEG: lines("I learned less in a year than in a week at home | half the group stopped coming |"
                   "I have asked for my fee back | no question got an answer |"
                   "I still cannot say a single sentence | the last two lessons were cancelled |"
                   "I embarrassed myself in front of my family* | the hours crawled by*"),
    },
    "train": {
        "things": ["train ride", "ferry trip", "bus tour", "night train*"], "class": "any",
        "aspects": [("carriage", "s", "room"), ("conductor", "s", "people"), ("seat", "s", "seat"),
                    ("scenery", "m", "nature"), ("sandwiches", "p", "food"), ("driver", "s", "people"),
                    ("fare", "s", "price"), ("cabin*", "s", "room"), ("steward*", "s", "people")],
        "again": "travel that way again",
        POS: lines("we arrived early and rested | I spent the whole way at the window | they upgraded us for nothing |"
                   "everything ran to the minute | I had two seats to myself | I slept through the night |"
                   "the crew waved us off like old friends* | the journey was over too soon*"),
        NEG: lines("we arrived four hours late | I stood the whole way in the corridor | they lost my suitcase |"
                   "nothing ran on time | a stranger slept on my shoulder | I did not close an eye all night |"
                   "the crew shouted at an old man* | the journey seemed to have no end*"),
    },
    "game": {
        "things": ["game", "puzzle game", "board game", "racing game*"], "class": "story",
        "aspects": [("levels", "p", "story"), ("controls", "p", "tech"), ("music", "m", "art"),
                    ("tutorial", "s", "story"), ("graphics", "p", "art"), ("rules", "p", "story"),
                    ("story", "s", "story"), ("puzzles*", "p", "story"), ("menus*", "p", "tech")],
        "again": "play it again",
        POS: lines("we played until three in the morning | I have finished it four times |"
                   "my friends keep asking for another round | I laughed out loud more than once |"
                   "nobody at the table looked at a phone | I missed dinner because of it |"
                   "my grandmother beat us all and wants a rematch* | I dreamed about it for a week*"),
        NEG: lines("we gave up after ten minutes | I could not finish the first level |"
                   "my friends asked for another game | it crashed more than once |"
                   "everybody at the table looked at a phone | I deleted it before dinner |"
                   "my grandmother went to bed after one round* | I regret every minute of it*"),
    },
}

# Verb phrases: past and bare form.
VERBS = {
    POS: [("won me over", "win me over"), ("delighted us", "delight us"), ("made my evening", "make my evening"),
          ("impressed me", "impress me"), ("pleased everyone", "please everyone"), ("kept me smiling", "keep me smiling"),
          ("cheered us up", "cheer us up"), ("charmed me", "charm me"), ("surprised me in the best way",
          "surprise me in the best way"), ("enchanted us*", "enchant us"), ("lifted my mood*", "lift my mood")],
    NEG: [("let us down", "let us down"), ("left me cold", "leave me cold"), ("ruined my evening", "ruin my evening"),
          ("annoyed me", "annoy me"), ("bored everyone", "bore everyone"), ("got on my nerves", "get on my nerves"),
          ("wore us out", "wear us out"), ("disappointed me", "disappoint me"), ("put me in a bad mood",
          "put me in a bad mood"), ("irritated us*", "irritate us"), ("tested my patience*", "test my patience")],
}

VERDICTS = {
    POS: lines("I would {again} tomorrow | I cannot wait to {again} | I hope to {again} soon |"
               "I would {again} without a second thought | it was worth every penny | I have told all my friends to try it |"
               "I have nothing to complain about | that was a day well spent | I am so glad we came* |"
               "you will not regret it | I would pay double to {again}*"),
    NEG: lines("I would not {again} for free | I will never {again} | I see no reason to {again} |"
               "nothing would make me {again} | it was a waste of money | I have warned all my friends |"
               "I have plenty to complain about | that was a day lost | I wish we had stayed at home* |"
               "you will regret it | you would have to pay me to {again}*"),
}

OTHERS = ["my brother", "my sister", "my neighbour", "a friend", "my boss", "the critic in the paper", "my aunt",
          "our guide book", "my cousin*", "the man at the desk*"]


class Topic:
    """One review's domain with helpers that render phrases of a wanted polarity."""

    def __init__(self, g):
        self.g = g
        self.domain = DOMAINS[g.rng.choice(sorted(DOMAINS))]
        self.used = set()

    def aspect(self, numbers="spm"):
        """(noun, number, class) of something not yet mentioned; sometimes the whole thing itself."""
        g = self.g
        for _ in range(50):
            if g.chance(0.15):
                item = (g.pick(self.domain["things"]), "s", self.domain["class"])
            else:
                item = g.pick(self.domain["aspects"])
            if item[1] in numbers and item[0] not in self.used:
                break
        self.used.add(item[0])
        return item

    def adj(self, kind, pol, avoid=()):
        g = self.g
        for _ in range(50):
            word = g.pick(ADJECTIVES["any" if g.chance(0.25) else kind][pol])
            if word not in avoid and word not in self.used:
                break
        self.used.add(word)
        return word

    def adv(self):
        return self.g.pick(["", "", "", "", "really ", "truly ", "so ", "surprisingly ", "genuinely*"]).replace(
            "genuinely", "genuinely ")

    def phrase(self, pol, numbers="spm", article=False):
        """An adjective with its noun: `gripping plot`, with `a`/`an` where it has one."""
        noun, number, kind = self.aspect(numbers)
        text = f"{self.adj(kind, pol)} {noun}"
        return a(text) if article and number == "s" else text

    def plain(self, pol):
        """`the soup was tasty`."""
        noun, number, kind = self.aspect()
        return f"the {noun} {be(number)} {self.adv()}{self.adj(kind, pol)}"

    def event(self, pol):
        return self.g.pick(self.domain[pol])

    def verdict(self, pol):
        return self.g.pick(VERDICTS[pol]).replace("{again}", self.domain["again"])

    def clause(self, pol, inner=True):
        """A clause of the wanted polarity, in lower case without a full stop."""
        g = self.g
        roll = g.rng.random()
        if roll < 0.45:
            return self.plain(pol)
        if roll < 0.58:
            noun, _, _ = self.aspect()
            return f"the {noun} {g.pick(VERBS[pol])[0]}"
        if roll < 0.76:
            return self.event(pol)
        if roll < 0.86:
            return self.verdict(pol)
        if not inner:
            return self.plain(pol)
        return negated(self, pol)


def be(number, tense="past"):
    forms = {"past": ("was", "were"), "now": ("is", "are")}[tense]
    return forms[1] if number == "p" else forms[0]


def it(number):
    return "they" if number == "p" else "it"


def negated(t, pol):
    """A clause that reaches its polarity by negating the other one."""
    g = t.g
    noun, number, kind = t.aspect()
    bad = t.adj(kind, OTHER[pol])
    form = g.pick([
        "the {n} {was} not {x}", "the {n} {was} not {x} at all", "the {n} {was} never {x}",
        "the {n} {was} hardly {x}", "the {n} {was} anything but {x}", "the {n} {was} far from {x}",
        "there was nothing {x} about the {n}", "I would not call the {n} {x}", "nobody could call the {n} {x}",
        "the {n} {is} no longer {x}", "the {n} did not {v}", "the {n} never once {v2}", "the {n} {was} by no means {x}*",
        "the {n} {was} scarcely {x}*", "it would be wrong to call the {n} {x}*",
    ])
    past, bare = g.pick(VERBS[OTHER[pol]])
    return form.format(n=noun, was=be(number), x=bad, v=bare, v2=past, **{"is": be(number, "now")})


# Templates. Each returns the text for the wanted label; `o` is the other polarity, so that every
# word list occurs under both labels and only the construction tells them apart.

def simple(t, pol):
    g = t.g
    form = g.pick(["plain", "two", "exclaim", "found", "event", "list", "verb", "thought", "verdict", "both"])
    if form == "plain":
        return t.plain(pol) + "."
    if form == "two":
        return f"{t.plain(pol)} and {t.plain(pol)}."
    if form == "exclaim":
        return f"what {t.phrase(pol, article=True)}!"
    if form == "found":
        noun, _, kind = t.aspect()
        return f"I found the {noun} {t.adv()}{t.adj(kind, pol)}."
    if form == "event":
        return f"{t.event(pol)}."
    if form == "list":
        return f"{t.phrase(pol)}, {t.phrase(pol)}, {t.phrase(pol)}: {t.verdict(pol)}."
    if form == "verb":
        return f"the {t.aspect()[0]} {g.pick(VERBS[pol])[0]}."
    if form == "thought":
        noun, number, kind = t.aspect()
        return f"{g.pick(OTHERS)} thought the {noun} {be(number)} {t.adj(kind, pol)}, and so did I."
    if form == "verdict":
        return f"{t.plain(pol)}, so {t.verdict(pol)}."
    noun, number, kind = t.aspect()
    return f"the {noun} {be(number)} both {t.adj(kind, pol)} and {t.adj(kind, pol)}."


def negation(t, pol):
    g = t.g
    o = OTHER[pol]
    if g.chance(0.7):
        return negated(t, pol) + "."
    noun, number, kind = t.aspect()
    if g.chance(0.5):
        return f"the {noun} {be(number)} neither {t.adj(kind, o)} nor {t.adj(kind, o)}."
    return f"{negated(t, pol)}, and {negated(t, pol)}."


def contrast(t, pol):
    g = t.g
    o = OTHER[pol]
    first, last = t.clause(o), t.clause(pol)
    return g.pick([
        f"{first}, but {last}.", f"{first}, but {last}.", f"although {first}, {last}.",
        f"even though {first}, {last}.", f"{last}, even though {first}.", f"{last}, although {first}.",
        f"{first}, yet {last}.", f"{first}. Still, {last}.", f"{first}. Even so, {last}.",
        f"at first {first}, but in the end {last}.", f"{first}, but that hardly mattered, because {last}.",
        f"{first}. All the same, {last}.*", f"while {first}, {last}.*",
    ])


def outweigh(t, pol):
    good, bad = t.phrase(POS, "sm"), t.phrase(NEG, "sm")
    thing, rest = t.g.pick(t.domain["things"]), t.adj("any", pol)
    return t.g.pick({
        POS: [f"the {good} made up for the {bad}.", f"despite the {bad}, {t.clause(pol)}.",
              f"not even the {bad} could spoil the day.", f"the {bad} was soon forgotten thanks to the {good}.",
              f"the only bad thing about the {thing} was the {bad}.", f"apart from the {bad}, everything was {rest}.",
              f"say what you like about the {bad}: {t.clause(pol)}.", f"I forgave the {bad} because of the {good}.*"],
        NEG: [f"the {good} did not make up for the {bad}.", f"despite the {good}, {t.clause(pol)}.",
              f"not even the {good} could save the day.", f"the {good} was soon forgotten because of the {bad}.",
              f"the only good thing about the {thing} was the {good}.", f"apart from the {good}, everything was {rest}.",
              f"say what you like about the {good}: {t.clause(pol)}.", f"I could not enjoy the {good} because of the {bad}.*"],
    }[pol])


def comparison(t, pol):
    g = t.g
    o = OTHER[pol]
    noun, number, kind = t.aspect()
    thing = g.pick(t.domain["things"])
    was, better = be(number), {POS: "better", NEG: "worse"}
    return g.pick([
        f"the {noun} {was} {better[pol]} than I had expected.",
        f"the {noun} {was} even {better[pol]} than the last time.",
        f"the {noun} could not have been {better[pol]}.",
        f"beside this {thing}, the one we tried last year was {t.adj(t.domain['class'], o)}.",
        f"I have tried many, and few were as {t.adj(t.domain['class'], pol)} as this {thing}.",
        f"compared with last year, when the {noun} {was} {t.adj(kind, o)}, this was {better[pol]} in every way.",
        {POS: f"I would choose this {thing} over any other.", NEG: f"I would choose any other {thing} over this one."}[pol],
        {POS: f"no other {thing} in town is half as {t.adj(t.domain['class'], POS)}.",
         NEG: f"any other {thing} in town is twice as {t.adj(t.domain['class'], POS)}."}[pol],
        f"this {thing} makes the others look {t.adj(t.domain['class'], o)}.*",
    ])


def expectation(t, pol):
    g = t.g
    o = OTHER[pol]
    noun, number, kind = t.aspect("sp")
    one = "one" if number == "s" else "ones"
    want, got = t.adj(kind, o), t.adj(kind, pol)
    art = a if number == "s" else (lambda text: text)
    was = be(number)
    return g.pick([
        f"I expected {art(want + ' ' + noun)} and got {art(got + ' ' + one)}.",
        f"we were told to expect {art(want + ' ' + noun)}, but {it(number)} {was} {got}.",
        {POS: f"{g.pick(OTHERS)} had warned us about {art(want + ' ' + noun)}; instead, {it(number)} {was} {got}.",
         NEG: f"{g.pick(OTHERS)} had promised {art(want + ' ' + noun)}; instead, {it(number)} {was} {got}."}[pol],
        f"after all I had read, I was ready for {art(want + ' ' + noun)}. Instead, {t.event(pol)}.",
        {POS: f"I was afraid that the {noun} would be {want}, and I was wrong.",
         NEG: f"I was sure that the {noun} would be {want}, and I was wrong."}[pol],
        {POS: f"I feared that the {noun} would be {want}; {it(number)} {was} not.",
         NEG: f"I hoped that the {noun} would be {want}; {it(number)} {was} not."}[pol],
        f"the pictures showed {art(want + ' ' + noun)}, but the real {one} {was} {got}.*",
    ])


def hearsay(t, pol):
    g = t.g
    noun, number, kind = t.aspect()
    who = g.pick(OTHERS)
    if g.chance(0.6):  # the other opinion, denied
        adj = t.adj(kind, OTHER[pol])
        return g.pick([
            f"{who} called the {noun} {adj}. I cannot agree.",
            f"{who} says that the {noun} {be(number)} {adj}, but that is simply not true.",
            f"some people find the {noun} {adj}; I am not one of them.",
            f"whoever said that the {noun} {be(number)} {adj} must have been somewhere else.",
            f"how anyone can call the {noun} {adj} is beyond me.",
            f"{who} swore that the {noun} {be(number)} {adj}. What nonsense.*",
        ])
    adj = t.adj(kind, pol)
    return g.pick([
        f"{who} called the {noun} {adj}. I can only agree.",
        f"{who} says that the {noun} {be(number)} {adj}, and that is simply true.",
        f"some people find the {noun} {adj}; I am one of them.",
        f"{who} swore that the {noun} {be(number)} {adj}. How right.*",
    ])


def time(t, pol):
    g = t.g
    noun, number, kind = t.aspect()
    before, now = t.adj(kind, OTHER[pol]), t.adj(kind, pol)
    return g.pick([
        f"the {noun} used to be {before}; now {it(number)} {be(number, 'now')} {now}.",
        f"last year the {noun} {be(number)} {before}, but this time {it(number)} {be(number)} {now}.",
        f"the {noun} {be(number)} {before} for the first hour and {now} from then on.",
        f"once {before}, the {noun} {be(number, 'now')} {now} these days.*",
    ])


def question(t, pol):
    g = t.g
    noun, number, kind = t.aspect()
    was = upper_first(be(number))
    if g.chance(0.5):
        answer = g.pick(["Not for a moment.", "Not in the least.", "No, not at all.", "Far from it.", "Hardly.*"])
        return f"{was} the {noun} {t.adj(kind, OTHER[pol])}? {answer}"
    answer = g.pick(["Very much so.", "Yes, and more than that.", "Yes, without a doubt.", "Oh yes.", "And how.*"])
    return f"{was} the {noun} {t.adj(kind, pol)}? {answer}"


def unreal(t, pol):
    """What might have been (test only)."""
    noun, _, kind = t.aspect()
    if pol == NEG:
        return t.g.pick([f"if only the {noun} had been {t.adj(kind, POS)}.",
                         f"the {noun} would have been {t.adj(kind, POS)} on any other day."])
    return t.g.pick([f"if only every {t.g.pick(t.domain['things'])} could be so {t.adj(t.domain['class'], POS)}.",
                     f"I wish that every {t.g.pick(t.domain['things'])} were as {t.adj(t.domain['class'], POS)} as this one."])


def setting(t, pol):
    """A neutral first sentence, then the verdict."""
    g = t.g
    start = g.pick([
        "we went on a rainy Tuesday.", "my parents came along.", "it was my turn to choose.", "we had a voucher.",
        "I am no expert.", "this was my third try.", "we had driven for two hours.", "the place is near the station.",
        "my sister paid for it.", "there were six of us.", "I went alone.", "it was a present.", "we had no plan that day.*"])
    return f"{start} {upper_first(t.clause(pol))}."


TEMPLATES = [(simple, 32), (negation, 12), (contrast, 19), (outweigh, 8), (comparison, 8), (expectation, 9),
             (hearsay, 7), (time, 5), (question, 5), (setting, 5)]
TEMPLATES_TEST = [*TEMPLATES, (unreal, 2)]


def review(g, pol, topic=None):
    """One labelled text."""
    t = topic or Topic(g)
    table = TEMPLATES if g.split in ("train", "validation") else TEMPLATES_TEST
    template = g.rng.choices([f for f, _ in table], [w for _, w in table])[0]
    text = upper_first(template(t, pol))
    if template is unreal:
        g.test_only.append(text)
    return re.sub(r"([.!?]) ([a-z])", lambda m: f"{m[1]} {m[2].upper()}", text)


def sentiment_splits():
    """{split: [(text, label, novel)]}: no text twice, not even across splits."""
    seen, splits = set(), {}
    for split, size in SENTIMENT_SIZES.items():
        g = Gen(SEED, split)
        positive = round(0.52 * size)
        labels = [POS] * positive + [NEG] * (size - positive)
        g.rng.shuffle(labels)
        rows = []
        while len(rows) < size:
            g.test_only.clear()
            label = labels[len(rows)]
            text = review(g, label)
            if text not in seen:
                seen.add(text)
                rows.append((text, label, g.is_novel(text)))
        splits[split] = rows
    return splits


# ---------------------------------------------------------------------------------------------
# Named entities: PER, LOC, ORG, PROD
# ---------------------------------------------------------------------------------------------

# Each of these is a person, a place, a company or a product, as the words around it decide.
SHARED = words(
    "Jordan Preston Harlow Kendal Selby Ripley Burnley Clifton Ashton Milton Hartley Austin Sydney Florence Chelsea "
    "Lincoln Victoria Georgia Kent Chester Devon Hudson Wells Orlando Madison Carolina Morgan Mercer Carter Lancaster "
    "Warwick Stafford Stanley Camden Brooklyn Dallas Aurora Verona Vienna Savannah Alexandria Santiago Marion Trent "
    "Shannon Clyde Logan Denver Paris Melrose Sutton Barton Newton Whitby* Houston* Sienna* Geneva* Hamilton* Bolton* "
    "Darwin* Eden* Valencia* Lorraine* Marlow* Tyrone* Winslow* Ellis*")
WOMEN = words("Anna Clara Emma Grace Irene Laura Maria Nadia Petra Rosa Tessa Vera Zoe Amara Chloé Elif Farah Gita "
              "Helena* Leila* Marta* Olga*")
MEN = words("Ben David Felix Hugo Jakob Karim Oscar Samir Umar Yusuf Björn Diego Anton Mateo Tomas Ravi "
            "Ivan* Jonas* Kemal* Nils*")
FIRST = WOMEN + MEN
LAST = words(
    "Novak Okafor Lindqvist Petrov Garcia Tanaka Weber Rossi Kowalski Singh Haddad Moreau Jensen Costa Demir Larsen "
    "Horvath Mensah Nguyen Silva Keller Ibrahim Dubois Fischer Romero* Yilmaz* Eriksen* Bauer* Adeyemi* Sato*")
PLACES = words(
    "Lisbon Kenya Oslo Peru Cairo Finland Athens Norway Chile Dublin Ghana Kyoto Lima Malta Nepal Porto Quito Rome Spain "
    "Tunis Turkey Uganda Warsaw Zagreb Tallinn* Bolivia* Hanoi* Iceland* Bergen* Jamaica* Riga* Seville*")
MAKERS = words(
    "Nortek Brightline Velora Quantor Solvex Halden Brixa Corvane Datamill Ferrox Greenfold Ostara Pivotal Radiant Tidewell "
    "Umbra Zentro Lyndale Maplex Orbis Nimbora* Calyx* Stellan* Averra* Koppel* Trevino*")
THINGS = words(
    "Lumo Kestrel Pixa Glider Nova Rook Tempo Vireo Zephyr Comet Dart Echo Falcon Juno Lark Onyx Prisma Spark "
    "Wisp* Talon* Quill* Minto* Heron* Flint*")
MODELS = ["3", "7", "12", "200", "400", "900", "Mini", "Pro", "Max", "Two", "Plus", "X*", "Go*", "Air*"]


def coined(g):
    """A name that occurs nowhere else, not in the corpus either."""
    head = words("Tor Mal Bren Cal Dor Fen Gar Hal Jor Kel Lor Mor Nor Pel Ros Sel Tal Ven Wil Yar")
    tail = words("vane brick mere stow wyn dale garth holt leigh mont rick shaw thorpe ver wick den by")
    return g.rng.choice(head) + g.rng.choice(words("a e i o an en in or")) + g.rng.choice(tail)


def shared(g):
    if g.split == "test" and g.chance(0.15):
        name = coined(g)
        g.test_only.append(name)
        return name
    return g.pick(SHARED)


def person(g, short=False):
    roll = g.rng.random()
    if short or roll < 0.45:
        return shared(g)
    if roll < 0.60:
        return g.pick(FIRST)
    if roll < 0.80:
        return f"{g.pick(FIRST)} {g.pick(LAST)}"
    if roll < 0.92:
        return f"{g.pick(FIRST)} {shared(g)}"
    return f"{shared(g)} {g.pick(LAST)}"


def place(g, short=False):
    roll = g.rng.random()
    if short or roll < 0.5:
        return shared(g)
    if roll < 0.75:
        return g.pick(PLACES)
    return g.pick(["New {}", "Port {}", "{} Bay", "{} Hill", "{} Bridge", "Upper {}", "Mount {}", "Lake {}", "{} Square*",
                   "Fort {}*"]).format(shared(g))


def company(g, short=False):
    roll = g.rng.random()
    if short or roll < 0.45:
        return shared(g)
    if roll < 0.65:
        return g.pick(MAKERS)
    if roll < 0.75:
        return g.pick(["University of {}", "Bank of {}", "{} City Council", "{} United"]).format(
            g.pick(PLACES) if g.chance(0.5) else shared(g))
    return g.pick(["{} Ltd", "{} Group", "{} & Sons", "{} Motors", "{} Foods", "{} Press", "{} Rovers", "{} Partners*",
                   "{} Labs*"]).format(g.pick(MAKERS) if g.chance(0.4) else shared(g))


def product(g, short=False):
    roll = g.rng.random()
    if short or roll < 0.4:
        return shared(g)
    if roll < 0.6:
        return g.pick(THINGS)
    return f"{g.pick(THINGS) if g.chance(0.5) else shared(g)} {g.pick(MODELS)}"


ENTITY = {"PER": person, "LOC": place, "ORG": company, "PROD": product}

# Openers that say nothing about the type of the name after them; the empty ones put the name first,
# and the second list asks for a past tense ...
OPENERS = lines(
    "| | | | | | | We heard that | Everyone knows that | It is true that | According to the report , | I like it that |"
    "Nobody believed that | It seems that | The paper wrote that | They told us that | Perhaps | As far as I know , |"
    "Some say that* | To our surprise ,* | One more thing :*")
PAST_OPENERS = lines(
    "Yesterday | Last week , | In the spring , | On {day} | Once again | In {year} , | At last | Two years ago , | After all that ,* |"
    "That same night*")
# ... and what follows the name and decides it.
FOLLOWS = {
    "PER": lines(
        "said that the talks would go on . | was born in [LOC] . | married a teacher from [LOC] . | smiled and sat down . |"
        "resigned from [ORG] . | who is {num} years old , won the race . | has two sisters and a brother . |"
        "wrote a letter to {his} mother . | broke {his} arm in the match . | joined [ORG] as an engineer . |"
        "asked for a glass of water . | told the court that {he} was innocent . | sang in the choir for years . |"
        "studied law in [LOC] . | forgot {his} umbrella on the train . | retired after {num} years at [ORG] . |"
        "played the piano for us . | was elected mayor with {num} votes . | and [PER] got engaged . | thanked {his} parents . |"
        "took a day off to see the dentist . | bought a [PROD] for {his} son . | lost {his} temper . | learned to swim at forty . |"
        "grew up on a farm near [LOC] .* | apologised to the neighbours .* | shook hands with [PER] .* |"
        "coughed all through the meeting .* | wants to become a pilot .* | kissed {his} daughter goodnight .*"),
    "LOC": lines(
        "lies on the river . | has {num} thousand inhabitants . | was cut off by snow for days . | is {num} kilometres from [LOC] . |"
        "has a famous old bridge . | was full of tourists . | had its hottest summer on record . | is twinned with [LOC] . |"
        "gets more rain than [LOC] . | has narrow streets and a fine harbour . | was flooded after the storm . |"
        "borders [LOC] in the north . | is known for its beaches . | was rebuilt after the fire . | has no railway station . |"
        "lost a third of its population . | is best seen from the hill . | will host the games next summer . |"
        "has a mild climate . | voted against the new motorway . | is where [PER] was born . | became the capital in {year} . |"
        "is an hour away by ferry .* | was shaken by an earthquake .* | has cobbled lanes and a market square .* |"
        "sits at the foot of the mountains .* | woke up to thick fog .* | is home to {num} thousand people .*"),
    "ORG": lines(
        "was founded in {year} . | posted a loss of {num} million . | hired {num} new workers . | opened an office in [LOC] . |"
        "raised its prices again . | named [PER] as its new head . | bought its rival [ORG] . | recalled the [PROD] . |"
        "signed a contract with [ORG] . | shares fell by {num} percent . | pays its staff on time . | went bankrupt in {year} . |"
        "denied that it had broken the law . | makes tyres and brakes . | moved its headquarters to [LOC] . |"
        "employs {num} people in [LOC] . | cut {num} jobs . | presented the [PROD] at the fair . | merged with [ORG] . |"
        "publishes its results on {day} . | settled the case out of court . | lost its biggest customer . |"
        "doubled its profit in {year} .* | is owned by [ORG] .* | dismissed its finance chief .* | sued [ORG] over a patent .* |"
        "paid a dividend for the first time .* | closed its factory near [LOC] .*"),
    "PROD": lines(
        "weighs {num} grams . | charges in an hour . | costs {num} dollars . | comes in three colours . | runs for ten hours on one battery . |"
        "was sold out within a day . | has a bigger screen than the [PROD] . | needs a new filter every month . |"
        "fits into any pocket . | was launched by [ORG] in {year} . | beeps when the water boils . | went on sale on {day} . |"
        "crashes when the memory is full . | comes with a cable and a case . | overheats in the sun . | is cheaper than the [PROD] . |"
        "takes sharp pictures at night . | has a range of {num} kilometres . | is made by [ORG] . | folds up to the size of a book . |"
        "switches itself off after a minute .* | plugs into any socket .* | was recalled because of a faulty switch .* |"
        "ships with two spare batteries .* | unlocks with a fingerprint .*"),
}
# Sentences whose words before the name help already.
PLAIN = lines(
    "We flew from [LOC] to [LOC] . | She has lived in [LOC] since {year} . | Mr [PER!] and Mrs [PER!] live in [LOC] . |"
    "The company [ORG] was sold to [ORG] . | My uncle [PER!] worked for [ORG] in [LOC] . | I ordered a [PROD] from [ORG] . |"
    "The road between [LOC] and [LOC] is closed . | He was treated at a hospital in [LOC] . | Shares in [ORG] rose by {num} percent . |"
    "Dr [PER!] of [ORG] will speak on {day} . | The new [PROD] replaces the old [PROD] . | My sister [PER!] moved to [LOC] . |"
    "It rained all week in [LOC] . | A spokesman for [ORG] declined to comment . | Their [PROD] broke down near [LOC] . |"
    "[PER] , [PER] and [PER] shared the prize . | He compared the [PROD] with the [PROD] . | The mayor of [LOC] met [PER] on {day} . |"
    "[ORG] and [ORG] are building a plant in [LOC] . | [PER] of [ORG] showed us the [PROD] . | Is [LOC] bigger than [LOC] ? |"
    "Have you met [PER!] , the sister of [PER] ? | The flight to [LOC] left without [PER] . | [LOC] , {day} ( [ORG] ) - Nothing new . |"
    "Captain [PER!] sailed to [LOC] in {year} .* | The ferry to [LOC] was late .* | Workers at [ORG] went on strike .* |"
    "He repaired my [PROD] for nothing .*")
# A name that could be anything, told apart only by what comes after it.
PAIRS = lines(
    "I like [{A}] because {a} , and [{B}] because {b} . | We talked about [{A}] : {a} . | Do you know [{A}] ? I mean that {a} . |"
    "[{A}] is my favourite , because {a} . | First came [{A}] : {a} .*")
REASONS = {
    "PER": lines("{he} listens | {he} tells good jokes | {he} never lies |"
        "{he} cooks so well | {he} is my cousin | {he} sings in tune* | {he} blushes easily*"),
    "LOC": lines("its streets are quiet | the beaches are clean | the air is so fresh |"
        "its old town is lovely | its winters are mild | the trams run all night* | its parks are huge*"),
    "ORG": lines("it pays its staff well | its managers are honest | it never cuts jobs |"
        "its shares rise every year | it hires young people | its board is sensible* | it treats its suppliers well*"),
    "PROD": lines("its battery lasts | it fits into my bag | it starts at once |"
        "its buttons are big | it never overheats | its screen is bright* | it charges quickly*"),
}
NOTHING = lines(
    "The meeting was moved to {day} . | It took {num} minutes to get there . | Nobody knew the answer . | In {year} the winter was mild . |"
    "On {day} we stayed at home . | The bridge was closed for repairs . | Prices rose by {num} percent . | The children went to bed early . |"
    "What a long day ! | Our train was late again . | Spring came early that year . | Summer is over .* | His dog barked all night .*")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")


def name(g, kind, short=False):
    """One entity's tokens with IOB2 tags."""
    tokens = ENTITY[kind](g, short).split()
    return [(t, ("I-" if i else "B-") + kind) for i, t in enumerate(tokens)]


def gender_of(first, otherwise):
    names = {first, first + "*"}
    return "f" if names & set(WOMEN) else "m" if names & set(MEN) else otherwise


def fill(g, text, about=""):
    """A template's tokens with tags, slots filled; no name twice in one sentence."""
    out, used, gender = [], set(), gender_of(about, g.rng.choice("fm"))
    for token in text.split():
        slot = re.fullmatch(r"\[(PER|LOC|ORG|PROD)(!?)\]", token)
        if slot:
            for _ in range(20):
                entity = name(g, slot[1], slot[2] == "!")
                if entity[0][0] not in used:
                    break
            used.add(entity[0][0])
            out += entity
            gender = gender_of(entity[0][0], gender)
        else:
            token = token.replace("{num}", str(g.rng.choice([g.rng.randint(3, 99), g.rng.randint(100, 950)])))
            token = token.replace("{year}", str(g.rng.randint(1890, 2024))).replace("{day}", g.rng.choice(DAYS))
            token = token.replace("{he}", {"f": "she", "m": "he"}[gender]).replace("{his}", {"f": "her", "m": "his"}[gender])
            out.append((token, "O"))
    out[0] = (upper_first(out[0][0]), out[0][1])
    return out


def is_past(follow):
    """May a time in the past precede it? Not before a present tense, nor where a date follows."""
    verb = follow.split()[0]
    return verb in ("was", "shares") or not (verb.endswith("s") or verb in ("will", "who") or "{year}" in follow or "{day}" in follow)


def tagged(g, kind=None):
    """One tagged sentence; `kind` asks for a sentence that opens with such an entity."""
    roll = g.rng.random()
    if kind or roll < 0.66:
        kind = kind or g.rng.choice(sorted(ENTITY))
        follow = g.pick(FOLLOWS[kind])
        openers = PAST_OPENERS if is_past(follow) and g.chance(0.4) else OPENERS
        opener = g.pick(openers)
        comma = " ," if follow.startswith("who ") else ""
        short = "!" if g.chance(0.6) else ""
        return fill(g, f"{opener} [{kind}{short}]{comma} {follow}")
    if roll < 0.80:
        form, (x, y) = g.pick(PAIRS), g.rng.sample(sorted(ENTITY), 2)
        return fill(g, form.replace("{A}", x + "!").replace("{B}", y + "!").replace("{a}", g.pick(REASONS[x])).replace(
            "{b}", g.pick(REASONS[y])))
    if roll < 0.95:
        return fill(g, g.pick(PLAIN))
    return fill(g, g.pick(NOTHING))


def ner_splits():
    """{split: [([(token, tag)], novel)]}: no sentence twice, not even across splits."""
    seen, splits = set(), {}
    for split, size in NER_SIZES.items():
        g = Gen(SEED + 1, split)
        rows = []
        while len(rows) < size:
            g.test_only.clear()
            sentence = tagged(g)
            key = tuple(t for t, _ in sentence)
            if key not in seen:
                seen.add(key)
                rows.append((sentence, g.is_novel(" ".join(key))))
        splits[split] = rows
    return splits


# ---------------------------------------------------------------------------------------------
# The unlabelled corpus
# ---------------------------------------------------------------------------------------------

def detokenize(text):
    return re.sub(r"\( ", "(", re.sub(r" ([.,:;?!)])", r"\1", text))


def review_document(g):
    """A review of one to five sentences.

    One that opens with a plain sentence keeps to its opinion. One that opens with any other construction
    turns round after it now and then: the checkpoint should know what the words mean, and leave most of
    what negation and contrast do to them for fine-tuning to learn.
    """
    t = Topic(g)
    pol = g.rng.choice([POS, NEG])
    if g.chance(0.6):
        parts = [review(g, pol, t)]
        pol = pol if g.chance(0.85) else OTHER[pol]
    else:
        parts = [upper_first(simple(t, pol))]
    size = g.rng.choice([1, 2, 3, 4, 4, 5])
    while len(parts) < size:
        t.used.clear()
        roll = g.rng.random()
        if roll < 0.2:
            parts.append(review(g, pol, t))
        elif roll < 0.5:
            parts.append(upper_first(simple(t, pol)))
        else:
            parts.append(upper_first(t.clause(pol, inner=False)) + ".")
    return parts


ANAPHORA = {
    "PER": lines("{he} was happy about it . | {he} has not slept since . | {he} told nobody . | {his} friends were proud . |"
                 "{he} is a quiet person . | {he} lives alone with a cat . | {his} brother was there too . | {he} laughed about it later ."),
    "LOC": lines("The town is small . | People there grow olives . | Its harbour is deep . | Many visitors come by train . |"
                 "Its streets are narrow . | The region is poor but beautiful . | The city has two airports ."),
    "ORG": lines("The company is growing . | Its owners are worried . | The firm has offices abroad . | Its workers want more money . |"
                 "The business is two hundred years old . | Investors were pleased . | Its managers met on {day} ."),
    "PROD": lines("The device is easy to use . | Buyers like its design . | The machine is rather loud . | It comes with a guarantee . |"
                  "Its battery can be replaced . | The gadget sells well . | Reviewers praised the screen ."),
}


def news_document(g):
    if g.chance(0.35):
        parts = [tagged(g)]
    else:
        kind = g.rng.choice(sorted(ENTITY))
        parts = [tagged(g, kind)]
        subject = [t for t, tag in parts[0] if tag.endswith(kind)][:1]
        while len(parts) < 4 and g.chance(0.6):
            if g.chance(0.5):
                parts.append(fill(g, g.pick(ANAPHORA[kind]), subject[0]))
            else:
                parts.append(fill(g, f"{subject[0]} {g.pick([f for f in FOLLOWS[kind] if not f.startswith('who ')])}"))
    texts = [" ".join(t for t, _ in part) for part in parts]
    return texts if g.chance(0.5) else [detokenize(text) for text in texts]


def story_document(g):
    """A short story: someone wants something, something happens, it ends well or badly."""
    who, she = g.pick([("Anna", "she"), ("Ben", "he"), ("Clara", "she"), ("Hugo", "he"), ("Rosa", "she"), ("Samir", "he"),
                       ("the old fisherman", "he"), ("the baker's daughter", "she"), ("a young teacher", "she"),
                       ("the boy next door", "he")])
    her = {"she": "her", "he": "his"}[she]
    start = g.pick([f"One morning {who} took the bus to {place(g)}.", f"{upper_first(who)} had always wanted a garden.",
                    f"{upper_first(who)} lost {her} keys on the way home.", f"When {who} was small, {she} lived near {place(g)}.",
                    f"On {g.rng.choice(DAYS)} {who} baked a cake for {person(g)}.",
                    f"{upper_first(who)} worked at {company(g)} and was tired of it."])
    wish = g.pick([f"{she} wanted to visit {her} grandmother.", f"{she} hoped for a quiet day.", f"{she} was looking for a present.",
                   f"{she} had a plan.", f"{she} had promised to be on time.", f"{she} needed help."])
    event = g.pick(["then it began to rain.", "suddenly a dog ran across the road.", f"a stranger asked for the way to {place(g)}.",
                    "the shop was closed.", "the telephone rang.", f"{she} met {person(g)} at the corner.",
                    f"{her} {product(g)} stopped working.", "the lights went out."])
    pol = g.rng.choice([POS, NEG])
    end = g.pick({POS: [f"{she} laughed and felt {g.pick(words('happy proud lucky calm'))}.", "it was a wonderful day.",
                        f"in the end everything went well and {she} was glad.", f"{she} went home with a smile."],
                  NEG: [f"{she} sighed and felt {g.pick(words('sad lonely angry tired'))}.", "it was a terrible day.",
                        f"in the end nothing went well and {she} was sorry.", f"{she} went home in tears."]}[pol])
    return [upper_first(part) for part in (start, wish, event, end)]


def description_document(g):
    """Sentences about a place or a thing, in which adjectives keep company with their kind."""
    t = Topic(g)
    pol = g.rng.choice([POS, NEG])
    noun, number, kind = t.aspect("s")
    x, y, z = (t.adj(kind, pol) for _ in range(3))
    good = g.pick({POS: ["People liked it.", "That is good.", "Guests come back for it.", "Nobody complains."],
                   NEG: ["People disliked it.", "That is bad.", "Guests stay away because of it.", "Everybody complains."]}[pol])
    return [upper_first(g.pick([f"the {noun} {be(number)} {x}, {y} and {z}.", f"{x} and {y} is how people describe the {noun}.",
                                f"some say {x}, some say {y}, but all of them mean the same.",
                                f"a {noun} that is {x} is often {y} as well."])), good]


def remark_document(g):
    """Small talk about what is good and what is bad, one thing at a time: it says what words mean, not sentences."""
    parts, feeling = [], {POS: words("good happy pleased glad"), NEG: words("bad unhappy cross sorry")}
    for _ in range(g.rng.randint(2, 5)):
        t, pol = Topic(g), g.rng.choice([POS, NEG])
        good, mood = {POS: "good", NEG: "bad"}[pol], g.rng.choice(feeling[pol][1:])
        roll = g.rng.random()
        if roll < 0.45:
            noun, number, kind = t.aspect("s")
            adj = t.adj(kind, pol)
            parts.append(upper_first(g.rng.choice([
                f"{a(adj + ' ' + noun)} is a {good} thing.", f"when the {noun} is {adj}, people are {mood}.",
                f"{a(noun)} that is {adj} is {good}.", f"people who find {a(adj + ' ' + noun)} are {mood}.",
                f"{adj} means {good} when we speak of {a(noun)}."])))
        elif roll < 0.65:
            noun, number, kind = t.aspect()
            parts.append(f"The {noun} {be(number)} {t.adj(kind, pol)}.")
            parts.append(g.rng.choice([f"That was {good}.", f"We were {mood} about it.", f"{upper_first(good)} news."]))
        else:
            said = {0: t.event, 1: t.verdict, 2: lambda p: f"the {t.aspect()[0]} {g.pick(VERBS[p])[0]}"}[g.rng.randrange(3)](pol)
            parts.append(upper_first(said) + ".")
            parts.append(g.rng.choice([f"That was {good}.", f"We were {mood}.", f"{upper_first(good)} news."]))
    return parts


def squash(text):
    """What two spellings of one sentence have in common, whatever their spacing and punctuation."""
    return re.sub(r"\W", "", text.lower())


def contains(text, excluded):
    """Is a run of one to three of the text's sentences an excluded text?"""
    sentences = [squash(s) for s in re.split(r"(?<=[.!?])\s+", text)]
    return squash(text) in excluded or any("".join(sentences[i:i + n]) in excluded for i in range(len(sentences)) for n in (1, 2, 3))


def write_corpus(path, excluded):
    """One document a line; a document with an excluded sentence is dropped."""
    g = Gen(SEED + 2, "corpus")
    kinds = [(review_document, 40), (remark_document, 25), (news_document, 25), (description_document, 5), (story_document, 5)]
    dropped = 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for _ in range(CORPUS_DOCUMENTS):
            make = g.rng.choices([f for f, _ in kinds], [w for _, w in kinds])[0]
            parts = make(g)
            text = " ".join(parts)
            if contains(text, excluded):
                dropped += 1
                continue
            out.write(text + "\n")
    return dropped


def labelled_texts(splits):
    """The squashed text of every labelled example, whatever its split."""
    sentiment, ner = splits
    texts = {squash(text) for split in sentiment for text, *_ in sentiment[split]}
    return texts | {squash(" ".join(t for t, _ in rows)) for split in ner for rows, _ in ner[split]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the pretraining corpus to this file as well")
    args = parser.parse_args()
    here = Path(__file__).resolve().parent
    sentiment, ner = sentiment_splits(), ner_splits()
    for folder in ("sentiment", "ner"):
        (here / folder).mkdir(exist_ok=True)
    for split, rows in sentiment.items():
        with open(here / "sentiment" / f"{split}.tsv", "w", encoding="utf-8", newline="\n") as out:
            out.write("text\tlabel\n")
            out.writelines(f"{text}\t{label}\n" for text, label, _ in rows)
        counts = {label: sum(r[1] == label for r in rows) for label in (NEG, POS)}
        print(f"sentiment/{split}: {len(rows)} {counts}, {sum(r[2] for r in rows)} with test-only entries")
    for split, rows in ner.items():
        with open(here / "ner" / f"{split}.conll", "w", encoding="utf-8", newline="\n") as out:
            for sentence, _ in rows:
                out.writelines(f"{token}\t{tag}\n" for token, tag in sentence)
                out.write("\n")
        counts = {k: sum(tag == f"B-{k}" for s, _ in rows for _, tag in s) for k in sorted(ENTITY)}
        print(f"ner/{split}: {len(rows)} {counts}, {sum(r[1] for r in rows)} with test-only entries")
    if args.out:
        dropped = write_corpus(args.out, labelled_texts((sentiment, ner)))
        print(f"{args.out}: {CORPUS_DOCUMENTS - dropped} documents, {dropped} dropped for a labelled sentence")


if __name__ == "__main__":
    main()
