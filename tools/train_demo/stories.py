"""A story grammar: short English tales whose endings follow from their beginnings.

A story fixes its people, its place and its objects first and then walks through one of
the plots.  A plot is a list of stages; a stage is a list of wordings, of which one is
taken.  All wordings of a plot share one set of facts, so any combination is coherent.
"""

import random
import re
import zlib

from words import (ADJ, ANIMALS, BOYS, COLORS, FOODS, GIRLS, HIDING, JOBS, OBJECTS, PETNAMES,
                   PLACES, TIMES, WEATHER)

OPENINGS = (
    "Once upon a time, there was {A_hero} named {name}. {He} lived {where}.",
    "Once upon a time, {a_hero} named {name} lived {where}.",
    "Once upon a time there lived {a_hero} {where}. {His} name was {name}.",
    "Once upon a time, {where}, there lived {a_hero} named {name}.",
    "There once was {a_hero} called {name} who lived {where}.",
    "Long ago, {a_hero} named {name} lived {where}.",
    "{name} was {a_hero}. {He} lived {where}.",
    "In a land far away, {a_hero} named {name} lived {where}.",
)

TRAITS = (
    "{name} loved {food} and {hobby}.", "Every day {name} liked {hobby}.",
    "{He} was always {mood} and {he} loved {hobby}.", "Everyone knew {name} because {he} was so {adj2}.",
    "{name} had a good friend, {a_friend} named {pal}.", "{His} best friend was {a_friend} named {pal}.",
    "",
)

HOBBIES = """singing songs|reading books|walking in the rain|looking at the stars|collecting stones
climbing trees|drawing pictures|telling jokes|swimming|dancing|watching the birds|baking cakes
playing hide and seek|planting flowers|counting the clouds|running in the meadow|making new friends
listening to old stories""".replace("\n", "|").split("|")

MOODS = "cheerful calm hopeful curious busy merry polite playful".split()

PLOTS = {
    "lost": (
        ("{Time}, {name} could not find {his} {color} {obj}.",
         "{Time}, {name} lost {his} {color} {obj}.",
         "{name} had a {color} {obj}. {Time}, it was gone."),
        ("{He} looked everywhere, but the {obj} was not there. {name} felt very sad.",
         "{He} searched the whole house and began to cry.",
         '"Where is my {obj}?" {he} said. {He} was very worried.'),
        ("Then {pal} the {friend} came by. \"Why are you sad?\" asked {pal}. \"I lost my {obj},\" said {name}.",
         "{pal} the {friend} saw that {name} was sad. \"What is wrong?\" asked {pal}. \"My {color} {obj} is gone,\" said {name}."),
        ("\"Let us look together,\" said {pal}. They looked and looked. At last they found the {obj} {hiding}.",
         "\"Do not cry, I will help you,\" said {pal}. {pal} looked {hiding}, and there was the {obj}!",
         "\"Two can see more than one,\" said {pal}. Soon they saw something {color} {hiding}. It was the {obj}!"),
        ("{name} was so happy that {he} hugged {pal}. \"Thank you for your help,\" {he} said.",
         "\"You found it! Thank you!\" cried {name}. {pal} smiled.",),
        ("From that day on, {name} always put the {obj} in a safe place.",
         "After that, {name} took good care of the {obj} and never lost it again.",
         "That evening they shared some {food} and played with the {obj} until it was dark."),
    ),
    "weather": (
        ("{Time}, {name} went for a walk to {place}.", "{Time}, {name} set out to visit {pal} the {friend}.",
         "{Time}, {name} was walking home from {place}."),
        ("Suddenly {weather}. {name} {trouble}.", "On the way {weather}, and {name} {trouble}.",
         "But then {weather}. {He} had not planned for this, and {he} {trouble}."),
        ("\"Oh no,\" said {name}. \"What shall I do now?\"", "{He} stopped under a tree and did not know what to do.",
         "\"I wish I had stayed at home,\" {he} said."),
        ("Just then {pal} the {friend} came along with {helper}. \"Take this,\" said {pal}.",
         "A door opened, and {pal} the {friend} looked out. \"Come here, I have {helper} for you,\" said {pal}.",),
        ("With {helper}, {name} {result}.", "{name} took {helper} and soon {he} {result}."),
        ("{name} thanked {pal} and gave {pal} some {food} the next day.",
         "\"You are a true friend,\" said {name}. From then on, {name} never left home without {helper}.",
         "Since that day, {name} always looks at the sky before {he} goes out, and {he} carries {helper}."),
    ),
    "share": (
        ("{Time}, {name} made a big basket of {food}.", "{Time}, {name} got a whole bag of {food} from {his} grandmother.",
         "{Time}, {name} found plenty of {food} at {place}."),
        ("{He} wanted to eat it all alone.", "\"This is all mine,\" thought {name}.",
         "{He} sat down in a quiet corner so that nobody would see {him}."),
        ("Then {pal} the {friend} came. {pal} had eaten nothing all day and was very hungry.",
         "Soon a hungry {friend} named {pal} walked by. \"Could I have a little, please?\" asked {pal}.",),
        ("{name} thought for a while. \"If I were hungry, I would want some too,\" {he} said.",
         "At first {name} wanted to say no. But {pal} looked so tired that {he} felt sorry.",),
        ("So {name} gave half of the {food} to {pal}. They ate together and laughed.",
         "\"Come and sit with me,\" said {name}. They shared the {food} and talked for a long time.",),
        ("The next day {pal} came back with a {color} {obj} as a gift. {name} learned that sharing makes two people happy.",
         "The {food} tasted better than ever. {name} learned that sharing is a joy.",
         "Since then, whenever {name} has {food}, {he} shares it with {pal}."),
    ),
    "brave": (
        ("{name} was afraid of {fear}.", "There was one thing that {name} feared: {fear}.",
         "{name} did many things well, but {he} was scared of {fear}."),
        ("{Time}, {he} heard a cry for help from {place}.", "{Time}, somebody called for help near {place}.",),
        ("It was {pal} the {friend}, who was stuck {stuck}. But to get there, {name} had to face {fear}.",
         "\"Help! I am stuck {stuck}!\" called {pal} the {friend}. Between them was only one thing: {fear}.",),
        ("{name} took a deep breath. \"My friend needs me,\" {he} said, and {he} went on step by step.",
         "{His} knees were shaking, but {name} did not turn back. \"I can do it,\" {he} said.",),
        ("Soon {he} reached {pal} and freed {pal} with {tool}.",
         "At last {he} came to {pal}. {He} used {tool} to set {pal} free.",),
        ("\"You are so brave!\" said {pal}. After that day, {name} was not afraid of {fear} any more.",
         "\"You saved me,\" said {pal}. {name} smiled. {He} knew now that {fear} could not stop {him}.",),
    ),
    "build": (
        ("{Time}, {name} wanted to build {project}.", "{Time}, {name} had a great idea. {He} would build {project}.",
         "{name} dreamed of {project}. {Time}, {he} began to build it."),
        ("{He} took wood, a hammer and some nails and worked until noon.", "{He} collected wood and rope at {place} and started at once.",),
        ("But {project2} fell down. {name} was angry and threw the hammer into the grass.",
         "But the first try went wrong, and {project2} broke into pieces. \"I will never finish it,\" {he} said.",),
        ("{pal} the {friend} had seen it all. \"Try again, but more slowly,\" said {pal}. \"I will hold the wood for you.\"",
         "\"May I help you?\" asked {pal} the {friend}. \"Four hands are better than two.\"",),
        ("They worked side by side, and this time everything held.", "Together they measured, sawed and hammered. In the evening {project2} was ready.",),
        ("{name} painted it {color}. \"We did it!\" said {name}, and they were both very proud.",
         "{project3} was {color} and strong. {name} learned that nobody should give up after the first try.",
         "All the neighbors came to look, and {name} told everyone how {pal} had helped."),
    ),
    "lie": (
        ("{Time}, {name} broke {a_obj} that belonged to {pal} the {friend}.",
         "{Time}, {name} was playing with {a_obj}. It belonged to {pal} the {friend}. Suddenly it broke.",),
        ("{name} was afraid and hid the pieces {hiding}.", "Nobody had seen it, so {name} put the broken {obj} {hiding}.",),
        ("\"Have you seen my {obj}?\" asked {pal}. \"No,\" said {name}, but {his} face became red.",
         "When {pal} asked about the {obj}, {name} said, \"I do not know where it is.\"",),
        ("That night {name} could not sleep, because {he} had told a lie.", "All day {name} felt bad. Even the {food} did not taste good.",),
        ("In the morning {he} went to {pal}. \"I broke your {obj}, and I am sorry,\" {he} said.",
         "At last {name} told the truth. \"It was me. I broke the {obj}. Please forgive me.\"",),
        ("{pal} was quiet for a moment. Then {pal} said, \"Thank you for being honest.\" They mended the {obj} together.",
         "\"I am glad that you told me,\" said {pal}. {name} gave {pal} a new {color} {obj}, and they stayed friends.",
         "{pal} forgave {him}. {name} never lied to a friend again."),
    ),
    "race": (
        ("{Time}, there was a big race near {place}.", "{Time}, {name} heard about a race to {place}.",),
        ("{pal} the {friend} laughed. \"You are too slow, {name}. I will win easily!\"",
         "\"Nobody is faster than me,\" said {pal} the {friend}. \"You cannot win, {name}.\"",),
        ("{name} said nothing and practiced every day.", "\"We will see,\" said {name}, and {he} trained every morning.",),
        ("On the day of the race {pal} ran ahead and then stopped to eat some {food}.",
         "When the race began, {pal} was far in front. \"I have time for a nap,\" thought {pal} and lay down.",),
        ("{name} ran on and on without a break. When {pal} looked up, it was too late.",
         "But {name} did not stop. Step by step {he} came closer, and then {he} passed {pal}.",),
        ("{name} won the race and got a {color} {obj} as a prize. \"Well done,\" said {pal}. \"I will not laugh at you again.\"",
         "{name} was the first to reach the end. The prize was a {color} {obj}. {pal} learned not to be so proud.",),
    ),
    "moon": (
        ("{Time}, {name} looked up at the moon. \"I want to touch it,\" {he} said.",
         "{name} loved the moon. {Time}, {he} decided to catch it.",),
        ("{He} climbed a tree, but the moon was too far away.", "{He} took a long ladder, but it was not long enough.",
         "{He} jumped as high as {he} could, but {he} could not reach it."),
        ("{name} sat down near the water and was sad.", "Tired and sad, {name} walked to the pond.",),
        ("Then {pal} the {friend} said, \"Look into the water.\"", "\"Do not be sad,\" said {pal} the {friend}. \"Come and see what is in the pond.\"",),
        ("There, in the still water, was the moon, round and bright.", "{name} looked down, and the moon was smiling in the water.",),
        ("{name} put one finger into the water and touched the moon. {He} laughed, and {he} went home happy.",
         "\"Now the moon is close to me,\" said {name}. Every clear night {he} comes back with {pal} to look at it.",),
    ),
    "garden": (
        ("{Time}, {name} planted a small seed {spot}.", "{Time}, {pal} the {friend} gave {name} a tiny seed. {name} put it into the ground {spot}.",),
        ("{He} gave it water every day, but nothing happened.", "Day after day {he} waited, but there was only brown earth.",),
        ("\"It will never grow,\" said {name}. \"Be patient,\" said {pal} the {friend}. \"Good things need time.\"",
         "{name} wanted to dig it out again. \"Wait a little longer,\" said {pal} the {friend}.",),
        ("So {name} waited. It rained, and then the sun came out.", "{name} kept giving it water, and a warm week went by.",),
        ("Then, one morning, there was a green leaf. Soon the plant was taller than {name}.",
         "At last a little green plant came out of the ground. It grew and grew.",),
        ("It had a big {color} flower. {name} showed it to {pal}. \"You were right,\" {he} said. \"It was worth the wait.\"",
         "In summer it was full of {color} flowers, and {name} gave the first one to {pal}.",),
    ),
    "visitor": (
        ("{Time}, somebody knocked at the door of {name}.", "{Time}, {name} heard a soft knock at the door.",),
        ("Outside stood {a_friend} with a big bag. \"My name is {pal}. I am new here and I have lost my way,\" said the {friend}.",
         "It was {a_friend} named {pal}, tired and hungry. \"May I rest here for a while?\" asked {pal}.",),
        ("\"Come in,\" said {name}. {He} brought some {food} and put a chair near the fire.",
         "{name} opened the door wide. \"Please sit down and have some {food},\" {he} said.",),
        ("{pal} told {name} about faraway lands, high mountains and ships with white sails.",
         "While they ate, {pal} told funny stories, and {name} laughed all evening.",),
        ("In the morning {pal} had to go. \"You were kind to a stranger,\" said {pal} and gave {name} a {color} {obj}.",
         "Before {pal} left, {pal} opened the bag. \"This {color} {obj} is for you, because you were so kind.\"",),
        ("{name} kept the {obj} for many years, and every spring {pal} came back to visit.",
         "Whenever {name} looked at the {obj}, {he} thought of {his} new friend {pal}.",),
    ),
    "birthday": (
        ("It was the birthday of {name}, but nobody said anything.", "{Time}, {name} woke up early. It was {his} birthday!",),
        ("{He} went to {pal} the {friend}, but {pal} only said, \"I have no time today.\"",
         "{He} met {pal} the {friend}. \"Sorry, I am busy,\" said {pal} and walked away.",),
        ("\"Everybody has forgotten my birthday,\" thought {name}, and {he} walked home slowly.",
         "{name} went to {place} alone and felt sad.",),
        ("But when {name} opened the door, all {his} friends were there. \"Surprise!\" they shouted.",
         "In the evening {he} came home. The room was full of {color} balloons. \"Happy birthday!\" cried {pal}.",),
        ("There was a big cake, {food} and music. {pal} gave {name} a new {obj}.",
         "{pal} laughed. \"I was busy making your cake!\" The present was a {color} {obj}.",),
        ("It was the best birthday that {name} ever had.", "{name} was so happy that {he} danced until midnight.",),
    ),
    "noise": (
        ("{Time}, {name} heard a strange noise {hiding}.", "{Time}, there was a strange sound {hiding}. {name} woke up.",),
        ("\"Is it a ghost?\" {he} whispered.", "\"Maybe it is a monster,\" thought {name}, and {his} heart beat fast.",),
        ("{He} called {pal} the {friend}. Together they took a lantern and went to look.",
         "{pal} the {friend} heard it too. \"Let us see what it is,\" said {pal} and took a lantern.",),
        ("Step by step they came closer. The noise became louder and louder.", "\"You go first,\" said {pal}. \"No, you,\" said {name}. So they went together.",),
        ("Then the light fell on a tiny {baby} that was playing with {a_obj}.", "And what did they see? A little {baby} sat there with {a_obj}.",),
        ("They laughed, because they had been afraid of such a small animal. {name} gave the {baby} some milk, and it stayed with {him}.",
         "\"So you are our ghost!\" laughed {name}. They gave the little {baby} some {food}, and it fell asleep.",),
    ),
    "trade": (
        ("{Time}, {name} took {his} {obj} to the market to sell it.", "{name} needed money for {food}. {Time}, {he} went to the market with {his} {color} {obj}.",),
        ("But nobody wanted to buy it.", "{He} stood there all day, but all the people walked past.",),
        ("{pal} the {friend} came with a bag of {food}. \"I have no money, but I need {a_obj},\" said {pal}.",
         "At last {pal} the {friend} stopped. \"What a fine {obj}! I can give you {food} for it,\" said {pal}.",),
        ("\"That is a good trade,\" said {name}.", "{name} looked at the {food} and nodded. \"Agreed,\" {he} said.",),
        ("{name} went home with the {food}, and {pal} went home with the {obj}.", "So {pal} got the {obj}, and {name} got the {food}.",),
        ("Both were happy, because each of them had what they needed.", "That night {name} had a good supper and thought that it had been a lucky day.",),
    ),
    "school": (
        ("{Time}, {name} went to school for the first time.", "{Time}, a new teacher came to the school of {name}.",),
        ("The teacher asked, \"What do you want to be one day?\"", "\"Tell me what you want to become,\" said the teacher.",),
        ("\"I want to be a {job},\" said {name}. {pal} the {friend} laughed.", "{name} stood up. \"I want to become a {job},\" {he} said. Everybody laughed, and {pal} the {friend} laughed most.",),
        ("But the teacher said, \"Do not laugh. Those who work hard can become anything.\"", "\"It is a good dream,\" said the teacher. \"Work for it every day.\"",),
        ("{name} worked hard for many years and learned all that {he} could.", "So {name} read every book and practiced day and night.",),
        ("In the end {he} became the best {job} in the land, and {pal} was the first to say, \"I was wrong.\"",
         "Years later {name} really was a {job}, and {pal} came to shake {his} hand.",),
    ),
    "river": (
        ("{Time}, {name} wanted to cross the river to visit {his} aunt.", "{Time}, {name} set out to see {his} aunt. Soon {he} came to a wide river.",),
        ("But the bridge was broken.", "But there was no bridge, and the water was deep and cold.",),
        ("\"I cannot swim,\" said {name} and sat down on a stone.", "{He} walked up and down and found no way.",),
        ("{pal} the {friend} came along in a little {color} boat. \"I can take you over, but my boat has a hole,\" said {pal}.",
         "\"I have a boat,\" said {pal} the {friend}, \"but I lost my paddle, so I cannot move it.\"",),
        ("{name} had {tool} in {his} bag. With a bit of thinking, they used it to repair the boat.", "{name} took {tool} out of {his} bag. It was just what they needed to make the boat ready.",),
        ("Soon they were on the other side. \"Alone, both of us would still sit there,\" said {name}.",
         "They crossed the river together, and the aunt gave them {food}. It was a happy day.",),
    ),
    "music": (
        ("{Time}, {name} found an old {instrument} {hiding}.", "{Time}, {name} got an old {instrument} from {his} uncle.",),
        ("{He} tried to play it, but it sounded terrible. All the birds flew away.", "The first notes were so bad that the dogs began to howl.",),
        ("\"Please stop,\" said {pal} the {friend}. {name} was ashamed.", "{pal} the {friend} held both ears shut. \"That is awful!\" said {pal}.",),
        ("But {name} did not give up. Every day {he} practiced at {place}, where nobody could hear {him}.", "So {name} went to {place} and practiced there for a whole year.",),
        ("Then, at the summer party, {name} played a song. Everybody became quiet.", "One evening {he} played again, and this time people stopped to listen.",),
        ("\"That was beautiful,\" said {pal}. {name} bowed and smiled.", "{pal} clapped the loudest. \"I am sorry that I laughed,\" said {pal}. \"Please play it again.\"",),
    ),
}

FEARS = ("the dark", "deep water", "the old cave", "high places", "the narrow bridge", "the big forest",
         "loud thunder", "spiders", "the old mill", "the steep stairs")
STUCK = ("in a deep hole", "under a heavy branch", "in the mud", "between two rocks", "in a thorn bush",
         "on a small rock in the water", "in an old net", "under a fallen tree")
PROJECTS = ("a tree house", "a small boat", "a bird house", "a wooden bridge", "a little wagon", "a raft",
            "a swing", "a table", "a windmill", "a dog house")
GARDEN_SPOTS = ("behind the house", "in the garden", "near the fence", "next to the old wall",
                "in front of the window")
TOOLS = ("a rope", "a ladder", "a shovel", "a blanket", "a broom", "a scarf", "an old belt", "a long ribbon",
         "a piece of wood", "a strong stick", "a hammer", "a net")
INSTRUMENTS = ("flute", "violin", "drum", "trumpet", "guitar", "harp", "piano", "horn")
BABIES = ("kitten", "puppy", "mouse", "hedgehog", "squirrel", "rabbit", "duckling", "owl")
ENDINGS = ("The end.", "And they lived happily ever after.", "And so the day ended well.", "", "", "")


def article(noun: str) -> str:
    """The noun with the fitting indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" or noun.startswith("honest") else "a ") + noun


# What tends to happen to heroes of each temper.
TEMPER = {
    "little": ("lost", "garden", "moon"), "young": ("school", "birthday", "garden"), "brave": ("brave", "weather"),
    "kind": ("share", "visitor"), "clever": ("river", "trade"), "curious": ("noise", "moon"),
    "shy": ("music", "brave"), "quiet": ("garden", "visitor"), "cheerful": ("music", "birthday"),
    "gentle": ("noise", "visitor"), "lazy": ("race", "build"), "busy": ("build", "birthday"),
    "proud": ("race", "lie"), "careful": ("weather", "lost"), "honest": ("lie", "trade"),
    "happy": ("birthday", "weather"), "lonely": ("visitor", "birthday"), "friendly": ("share", "river"),
    "patient": ("garden", "race"), "funny": ("moon", "school"),
}


def lean(rng: random.Random, options, *clues):
    """Half of the time the option that the clues point to, otherwise any option.

    So a story depends on its beginning also when the likeliest words are taken.
    """
    options = list(options)
    if rng.random() < 0.5:
        return options[zlib.crc32("/".join(clues).encode()) % len(options)]
    return rng.choice(options)


def tell(rng: random.Random, plot=None, name=None, hero=None, obj=None) -> tuple[str, dict]:
    """Tells one story; returns its text and the facts it was built on."""
    girl = rng.random() < 0.5
    adj, adj2 = rng.sample(ADJ, 2)
    plot = plot or (rng.choice(TEMPER[adj]) if rng.random() < 0.6 else rng.choice(tuple(PLOTS)))
    kind = rng.random()
    if hero:
        noun, names = hero, PETNAMES
    elif kind < 0.45:
        noun, names = ("girl" if girl else "boy"), (GIRLS if girl else BOYS)
    elif kind < 0.85:
        noun, names = rng.choice(ANIMALS), PETNAMES
    else:
        noun, names = rng.choice(JOBS), (GIRLS if girl else BOYS)
    if name and name in GIRLS + BOYS:
        girl = name in GIRLS
        noun = "girl" if girl else "boy"
    name = name or rng.choice(names)
    where, place = lean(rng, PLACES, "place", adj, noun)
    friend = lean(rng, [a for a in ANIMALS if a != noun], "friend", noun, place)
    pal = lean(rng, [n for n in PETNAMES if n != name], "pal", friend)
    obj = obj or lean(rng, OBJECTS, "object", plot, place)
    weather, trouble, helper, result = lean(rng, WEATHER, "weather", place)
    time, project = lean(rng, TIMES, "time", place), lean(rng, PROJECTS, "project", place)
    bare = project.split(" ", 1)[1]
    facts = {
        "name": name, "hero": noun, "a_hero": article(f"{adj} {noun}"), "where": where, "place": place,
        "pal": pal, "friend": friend, "a_friend": article(friend), "obj": obj, "a_obj": article(obj),
        "color": lean(rng, COLORS, "color", obj), "food": lean(rng, FOODS, "food", noun),
        "hobby": lean(rng, HOBBIES, "hobby", noun, place),
        "mood": rng.choice(MOODS), "adj2": adj2, "hiding": lean(rng, HIDING, "hiding", place), "time": time,
        "weather": weather, "trouble": trouble, "helper": helper, "result": result,
        "fear": lean(rng, FEARS, "fear", noun), "stuck": lean(rng, STUCK, "stuck", friend), "project": project,
        "project2": "the " + bare, "project3": "The " + bare, "spot": rng.choice(GARDEN_SPOTS),
        "baby": lean(rng, [b for b in BABIES if b not in (noun, friend)], "baby", obj),
        "job": lean(rng, [j for j in JOBS if j != noun], "job", noun), "tool": lean(rng, TOOLS, "tool", noun),
        "instrument": lean(rng, INSTRUMENTS, "instrument", noun),
        "he": "she" if girl else "he", "his": "her" if girl else "his", "him": "her" if girl else "him",
    }
    for key in ("time", "he", "his", "a_hero"):
        facts[key[0].upper() + key[1:]] = facts[key][0].upper() + facts[key][1:]
    facts["A_hero"] = facts["a_hero"]
    parts = [rng.choice(OPENINGS), rng.choice(TRAITS)]
    parts += [rng.choice(stage) for stage in PLOTS[plot]]
    parts.append(rng.choice(ENDINGS))
    text = " ".join(p for p in parts if p).format_map(facts)
    text = re.sub(r"\ba ([aeio]\w+)", r"an \1", text)  # "a orange kite"
    return text, facts


_FREE = ("Tell me a story.", "Tell me a story", "Write a short story.", "Tell a story, please.",
         "Please tell me a short story.", "I want to hear a story.", "Can you tell me a story?")
_ABOUT = ("Tell me a story about {}.", "Write a story about {}.", "Tell me a short story about {}",
          "Please tell a story about {}.", "Can you write a story about {}?")


def requested(rng: random.Random) -> tuple[str, str]:
    """A request for a story and a story that fulfils it."""
    how = rng.random()
    if how < 0.3:
        return rng.choice(_FREE), tell(rng)[0]
    ask = rng.choice(_ABOUT)
    if how < 0.55:
        hero = rng.choice(ANIMALS)
        return ask.format(article(hero)), tell(rng, hero=hero)[0]
    if how < 0.75:
        name = rng.choice(GIRLS + BOYS)
        return ask.format(name), tell(rng, name=name)[0]
    obj = rng.choice(OBJECTS)
    plots = [p for p in PLOTS if any("{obj}" in w or "{a_obj}" in w for w in sum(PLOTS[p], ()))]
    plot = rng.choice([p for p in plots if p in ("lost", "lie", "trade")])
    if how < 0.9:
        return ask.format(article(obj)), tell(rng, plot=plot, obj=obj)[0]
    name = rng.choice(GIRLS + BOYS)
    return ask.format(f"{name} and {article(obj)}"), tell(rng, plot=plot, name=name, obj=obj)[0]
