"""Word lists used by the story grammar and by the exact tasks.

Everything here was written for this project; nothing is downloaded.
"""

GIRLS = """Anna Lily Mia Emma Sara Lucy Nora Ella Ruby Rosa Clara Ivy Zoe Maya Lena
Alice Grace Hannah Molly Jane Eva Julia Sofia Tina Wendy Nina Olga Paula Rita Stella
Tess Una Vera Amy Beth Carla Diana Edith Fiona Greta Helen Iris Jenny Kate Laura Mary
Nelly Olive Polly Rachel Sally Tara Ursula Violet Yara Zelda Ada Bella Cora Daisy Esther
Flora Gina Heidi Ingrid Joy Kira Leah Mona""".split()

BOYS = """Tom Ben Sam Max Leo Jack Tim Bob Dan Finn Hugo Oscar Peter Paul Luke Noah
Adam Alex Carl David Eric Felix George Henry Ivan John Karl Liam Mark Nick Otto Philip
Ray Simon Theo Victor Walter Zack Anton Bruno Cyril Dario Emil Frank Gus Hans Igor Jim
Kevin Lars Milo Neil Omar Pablo Quinn Ralph Steve Toby Uri Vince Will Yusuf Axel Basil
Colin Denis Edgar Fred Glen Harry""".split()

PETNAMES = """Pip Fluffy Spot Rusty Ginger Pepper Coco Bubbles Nibbles Patch Sunny Shadow
Whiskers Biscuit Hazel Maple Pebble Dusty Button Clover Misty Bramble Tiny Ziggy Acorn
Poppy Teddy Smoky Honey Rocket""".split()

ANIMALS = """fox rabbit mouse bear cat dog squirrel hedgehog owl duck goose frog turtle
otter badger deer wolf lamb goat pony donkey hen sparrow crow robin beaver mole panda
monkey tiger lion zebra camel koala penguin seal parrot swan pigeon kitten puppy lizard
snail bee ant beetle crab whale dolphin elephant giraffe""".split()

JOBS = """baker farmer fisherman teacher painter doctor gardener sailor miller tailor
carpenter shepherd cook postman librarian clockmaker blacksmith weaver singer potter
nurse pilot driver builder""".split()

ADJ = """little young brave kind clever curious shy quiet cheerful gentle lazy busy proud
careful honest happy lonely friendly patient funny""".split()

# Places one can be in: (phrase with preposition, noun phrase)
PLACES = [
    ("in a small village", "the village"), ("near the sea", "the beach"),
    ("at the edge of a dark forest", "the forest"), ("on a green hill", "the hill"),
    ("in a big city", "the city"), ("by a wide river", "the river"),
    ("on a quiet farm", "the farm"), ("in a cottage in the woods", "the woods"),
    ("beside a blue lake", "the lake"), ("in a tall tower", "the tower"),
    ("in a valley between two mountains", "the valley"), ("on a sunny island", "the island"),
    ("in a town with red roofs", "the town"), ("under an old bridge", "the bridge"),
    ("next to the railway station", "the station"), ("behind the school", "the school"),
    ("in a garden full of roses", "the garden"), ("at the foot of a mountain", "the mountain"),
    ("in a house near the market", "the market"), ("close to an old windmill", "the windmill"),
    ("by the harbor", "the harbor"), ("in a warm desert", "the desert"),
    ("in a snowy land far in the north", "the snow field"), ("across from the park", "the park"),
    ("beside an old castle", "the castle"), ("on the shore of a deep pond", "the pond"),
]

# Things a hero can own, lose, find, share or make.
OBJECTS = """ball kite book hat scarf drum bell lantern key coin ring basket umbrella boat
doll puppet whistle clock mirror cup spoon blanket pillow ribbon button feather shell
stone marble map compass pencil notebook brush candle box bag coat glove boot necklace
flute violin trumpet wagon sled bicycle rope ladder hammer shovel broom bucket teapot
vase picture letter postcard toy robot train puzzle balloon mask crown""".split()

COLORS = "red blue green yellow white black golden silver purple orange pink brown".split()

FOODS = """bread cheese soup honey cake pie apples pears plums berries nuts carrots
potatoes rice beans corn cookies pancakes porridge jam milk tea lemonade butter eggs
fish salad noodles grapes cherries""".split()

HIDING = """under the bed|behind the door|in the tall grass|under a big leaf|behind the sofa
in an old box|on top of the shelf|under the apple tree|inside a boot|next to the well
between two rocks|in the kitchen drawer|behind the curtain|in the hollow tree|under the bench
beside the fence|in the hay|at the bottom of the basket""".replace("\n", "|").split("|")

TIMES = """one morning|one day|one sunny afternoon|one evening|one cold night|early one day
on a quiet Sunday|one spring day|late in the summer|one windy autumn day|on a winter morning
on the first day of school|one bright Monday|after lunch one day""".replace("\n", "|").split("|")

# (weather sentence, trouble it brings, what helps, good result)
WEATHER = [
    ("it started to rain", "got wet", "an umbrella", "stayed dry"),
    ("heavy snow began to fall", "got cold", "a warm coat", "was warm again"),
    ("a strong wind began to blow", "almost fell over", "a thick rope", "stood firm"),
    ("thick fog covered everything", "could not see the path", "a lantern", "found the path"),
    ("the sun became very hot", "felt thirsty", "a bottle of cold water", "felt fresh again"),
    ("thunder rolled over the hills", "felt afraid", "a soft blanket", "felt safe"),
    ("the night came early", "could not see anything", "a bright candle", "could see again"),
    ("ice covered the road", "slipped and fell", "a pair of good boots", "walked safely"),
]

COUNTRY_CAPITAL = """Afghanistan:Kabul Albania:Tirana Algeria:Algiers Angola:Luanda Argentina:Buenos_Aires
Armenia:Yerevan Australia:Canberra Austria:Vienna Azerbaijan:Baku Bahrain:Manama
Bangladesh:Dhaka Barbados:Bridgetown Belarus:Minsk Belgium:Brussels Bhutan:Thimphu
Botswana:Gaborone Brazil:Brasilia Bulgaria:Sofia Cambodia:Phnom_Penh Cameroon:Yaounde
Canada:Ottawa Chad:N'Djamena Chile:Santiago China:Beijing Colombia:Bogota
Croatia:Zagreb Cuba:Havana Cyprus:Nicosia Denmark:Copenhagen Ecuador:Quito
Egypt:Cairo Estonia:Tallinn Ethiopia:Addis_Ababa Fiji:Suva Finland:Helsinki
France:Paris Gabon:Libreville Georgia:Tbilisi Germany:Berlin Ghana:Accra
Greece:Athens Guatemala:Guatemala_City Guinea:Conakry Haiti:Port-au-Prince Honduras:Tegucigalpa
Hungary:Budapest Iceland:Reykjavik India:New_Delhi Indonesia:Jakarta Iran:Tehran
Iraq:Baghdad Ireland:Dublin Italy:Rome Jamaica:Kingston Japan:Tokyo
Jordan:Amman Kenya:Nairobi Kuwait:Kuwait_City Laos:Vientiane Latvia:Riga
Lebanon:Beirut Liberia:Monrovia Libya:Tripoli Lithuania:Vilnius Luxembourg:Luxembourg
Madagascar:Antananarivo Malaysia:Kuala_Lumpur Mali:Bamako Malta:Valletta Mexico:Mexico_City
Moldova:Chisinau Mongolia:Ulaanbaatar Morocco:Rabat Mozambique:Maputo Namibia:Windhoek
Nepal:Kathmandu Niger:Niamey Nigeria:Abuja Norway:Oslo Oman:Muscat
Pakistan:Islamabad Panama:Panama_City Paraguay:Asuncion Peru:Lima Philippines:Manila
Poland:Warsaw Portugal:Lisbon Qatar:Doha Romania:Bucharest Russia:Moscow
Rwanda:Kigali Senegal:Dakar Serbia:Belgrade Singapore:Singapore Slovakia:Bratislava
Slovenia:Ljubljana Somalia:Mogadishu Spain:Madrid Sudan:Khartoum Sweden:Stockholm
Switzerland:Bern Syria:Damascus Thailand:Bangkok Tunisia:Tunis Turkey:Ankara
Uganda:Kampala Ukraine:Kyiv Uruguay:Montevideo Venezuela:Caracas Vietnam:Hanoi
Yemen:Sanaa Zambia:Lusaka Zimbabwe:Harare"""
CAPITALS = {c.replace("_", " "): k.replace("_", " ")
            for c, k in (pair.split(":") for pair in COUNTRY_CAPITAL.split())}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November
December""".split()

# Ordinary words of at most eight letters for the letter and repeat tasks.
_EXTRA = """table chair window door floor wall roof house garden street road bridge tower
river lake ocean island mountain valley forest desert field meadow tree flower grass leaf
root branch seed fruit apple pear plum cherry grape lemon orange banana peach melon bread
butter cheese milk water coffee sugar salt pepper honey soup salad pasta rice potato
tomato carrot onion garlic bean corn wheat flour cake cookie candy spoon fork knife plate
bowl glass bottle cup kettle oven stove pan pot kitchen bedroom bathroom mirror carpet
curtain pillow blanket lamp candle clock watch phone radio camera computer keyboard screen
mouse printer paper pencil eraser ruler letter book page story poem song music dance
piano guitar violin drum trumpet flute singer dancer actor painter writer doctor nurse
teacher student farmer baker butcher sailor soldier pilot driver waiter cook judge lawyer
king queen prince princess knight castle dragon wizard witch magic sword shield arrow
horse cow pig sheep goat chicken duck goose turkey rabbit dog cat bird fish shark whale
dolphin seal crab shrimp snake lizard frog turtle spider ant bee butter fly moth wolf bear
fox deer moose elk lion tiger leopard zebra giraffe monkey gorilla elephant camel kangaroo
koala panda eagle hawk owl crow sparrow robin pigeon swan penguin parrot head face eye ear
nose mouth tooth tongue neck shoulder arm elbow hand finger thumb chest stomach back leg
knee ankle foot toe heart brain blood bone skin hair shirt pants dress skirt coat jacket
hat glove scarf sock shoe boot belt button pocket ring watch gold silver iron copper steel
wood stone brick sand clay cloth wool cotton silk leather plastic rubber red blue green
yellow purple pink brown black white gray big small tall short long wide narrow thick thin
heavy light fast slow hot cold warm cool wet dry hard soft loud quiet bright dark clean
dirty new old young happy sad angry afraid brave kind clever simple easy strong weak rich
poor early late open close start stop begin end come go walk run jump swim climb fall stand
sit lie sleep wake eat drink cook wash clean build break fix open push pull throw catch
carry hold drop give take bring send buy sell pay cost count add draw paint read write
speak talk listen hear see look watch think know learn teach forget remember hope wish love
hate like want need help play work rest laugh smile cry shout whisper ask answer sun moon
star sky cloud rain snow wind storm thunder ice fire smoke earth world north south east west
spring summer autumn winter morning noon evening night today tomorrow week month year hour
minute second time number zero one two three four five six seven eight nine ten hundred
circle square triangle line point corner edge center left right front side top bottom city
town village country nation market store bank school hospital library museum church park
station airport harbor train plane boat ship truck bicycle wagon wheel engine ticket travel
journey friend family mother father sister brother uncle aunt cousin baby child woman man
people person party gift game ball kite doll puzzle robot planet rocket space code data
file graph kernel memory token model layer vector matrix tensor compile runtime""".split()
WORDS = sorted({w.lower() for w in _EXTRA + ANIMALS + OBJECTS + COLORS + FOODS + ADJ + JOBS
                if 3 <= len(w) <= 8})
